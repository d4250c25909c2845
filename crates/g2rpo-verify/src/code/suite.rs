//! Tests of one problem, read from the rows of the known data sets.

use serde_json::Value as Json;

use super::extract::defines;
use super::job::Request;
use super::value::Value;
use crate::verdict::Unverifiable;

/// The tests of one problem.
#[derive(Debug, Clone, PartialEq)]
pub struct TestSuite {
    /// Code that belongs before the response: the prompt of `HumanEval`, the set-up of MBPP.
    pub context: String,
    /// The function that the response completes, where the data set names it.
    pub entry: Option<String>,
    /// The tests.
    pub tests: Tests,
}

/// How tests are written.
#[derive(Debug, Clone, PartialEq)]
pub enum Tests {
    /// Python source with asserts.
    Asserts(String),
    /// Requests with what is expected.
    Cases(Vec<TestCase>),
}

/// One request and what is expected. The request goes into the sandbox; the expectation never does.
#[derive(Debug, Clone, PartialEq)]
pub struct TestCase {
    /// What is asked of the code.
    pub request: Request,
    /// What is expected of it.
    pub expectation: Expectation,
}

/// What a test expects.
#[derive(Debug, Clone, PartialEq)]
pub enum Expectation {
    /// A value that Python's `==` calls equal.
    Equals(Value),
    /// A value equal to one of these, where tuples count as lists: results that were stored as JSON.
    JsonOneOf(Vec<Value>),
    /// `None`, `True` or `False` itself.
    Is(Value),
    /// A value that Python counts as true, or as false.
    Truth(bool),
    /// Printed text; see [`same_output`](super::same_output).
    Output(String),
    /// That the tests, which are a program, run through.
    Passes,
}

impl TestSuite {
    /// Reads the tests of one problem from JSON, in the shapes in which data sets have them:
    ///
    /// | data | fields |
    /// |---|---|
    /// | `HumanEval`, `HumanEval+` | `entry_point`, `test`, `prompt` |
    /// | MBPP | `test_list` with optional `test_setup_code`, `test_imports` |
    /// | `AceCode`, `KodCode` | an array of strings that are asserts |
    /// | APPS, TACO, PRIME, verl | `inputs`, `outputs`, optional `fn_name` |
    /// | open-r1 | `test_cases` of `input`, `output`, optional `fn_name` |
    /// | `LiveCodeBench` | an array of `input`, `output`, `testtype`; `func_name` or `fn_name` |
    ///
    /// In the last three, without a function name a test feeds standard input and compares standard
    /// output. With one, inputs are the arguments: a JSON array, or text with one JSON value on each
    /// line. Where every stored output is a list of one element, as APPS stores them, the element
    /// counts as well as the list.
    ///
    /// # Errors
    /// Why no response can be judged by it.
    pub fn from_json(reference: &str) -> Result<Self, Unverifiable> {
        if reference.trim().is_empty() {
            return Err(Unverifiable::EmptyReference);
        }
        let json: Json =
            serde_json::from_str(reference).map_err(|_| Unverifiable::UnreadableReference)?;
        if let (Some(inputs), Some(outputs)) =
            (json["inputs"].as_array(), json["outputs"].as_array())
            && inputs.len() != outputs.len()
        {
            return Err(Unverifiable::Tests(format!(
                "{} inputs and {} outputs",
                inputs.len(),
                outputs.len()
            )));
        }
        let suite = match &json {
            Json::Array(items) => from_array(items, None),
            Json::Object(_) if json.get("test").is_some() => human_eval(&json),
            Json::Object(_) if json.get("test_list").is_some() => mbpp(&json),
            Json::Object(_) if json.get("test_cases").is_some() => {
                let cases = json["test_cases"].as_array();
                cases.and_then(|cases| from_array(cases, function_name(&json)))
            }
            Json::Object(_) if json.get("inputs").is_some() => apps(&json),
            _ => None,
        };
        let suite = suite.ok_or(Unverifiable::UnreadableReference)?;
        match &suite.tests {
            Tests::Asserts(source) if source.trim().is_empty() => Err(Unverifiable::NoTests),
            Tests::Cases(cases) if cases.is_empty() => Err(Unverifiable::NoTests),
            _ => Ok(suite),
        }
    }

    fn cases(cases: Vec<TestCase>) -> Self {
        Self {
            context: String::new(),
            entry: None,
            tests: Tests::Cases(cases),
        }
    }

    /// Whether the data set's own harness puts imports before every solution: `LiveCodeBench` 28fef95 and APPS do,
    /// and those that took theirs over. `HumanEval` and MBPP have the imports in their rows.
    #[must_use]
    pub const fn has_prelude(&self) -> bool {
        matches!(self.tests, Tests::Cases(_))
    }

    /// The program to run for a response: the context and the code, where the code may be either
    /// the whole function or what follows the context.
    #[must_use]
    pub fn program(&self, code: &str) -> String {
        // Such an import has to come first, and says that the code stands for itself.
        if self.context.is_empty() || code.contains("from __future__ import") {
            return code.to_owned();
        }
        let completes = self
            .entry
            .as_deref()
            .is_some_and(|entry| !defines(code, entry));
        if completes {
            format!("{}{code}", self.context)
        } else {
            let context = self.context.trim_end();
            // A context may end in the head of the very function that the code defines.
            let body = if context.ends_with(':') { " pass" } else { "" };
            format!("{context}{body}\n\n{code}")
        }
    }
}

fn human_eval(json: &Json) -> Option<TestSuite> {
    let text = |name: &str| json.get(name).and_then(Json::as_str);
    Some(TestSuite {
        context: text("prompt").unwrap_or_default().to_owned(),
        entry: Some(text("entry_point")?.to_owned()),
        tests: Tests::Asserts(text("test")?.to_owned()),
    })
}

fn mbpp(json: &Json) -> Option<TestSuite> {
    let setup = json
        .get("test_setup_code")
        .and_then(Json::as_str)
        .unwrap_or_default();
    let imports = json
        .get("test_imports")
        .and_then(strings)
        .unwrap_or_default();
    let mut context = imports.join("\n");
    if !setup.trim().is_empty() {
        context = format!("{context}\n{setup}");
    }
    Some(TestSuite {
        context: context.trim().to_owned(),
        entry: None,
        tests: Tests::Asserts(strings(&json["test_list"])?.join("\n")),
    })
}

fn strings(json: &Json) -> Option<Vec<&str>> {
    json.as_array()?.iter().map(Json::as_str).collect()
}

fn function_name(json: &Json) -> Option<&str> {
    ["fn_name", "func_name", "function_name"]
        .iter()
        .find_map(|name| json.get(name).and_then(Json::as_str))
        .filter(|name| !name.is_empty())
}

fn from_array(items: &[Json], function: Option<&str>) -> Option<TestSuite> {
    if !items.is_empty() && items.iter().all(Json::is_string) {
        let asserts: Vec<&str> = items.iter().filter_map(Json::as_str).collect();
        return Some(TestSuite {
            context: String::new(),
            entry: None,
            tests: Tests::Asserts(asserts.join("\n")),
        });
    }
    let functions: Vec<_> = items
        .iter()
        .map(|item| {
            let own = function_name(item).or_else(|| item.get("metadata").and_then(function_name));
            own.or(function)
        })
        .collect();
    let wrapped = items.iter().all(|item| is_wrapped(&item["output"]));
    let cases = items.iter().zip(functions).map(|(item, function)| {
        let named_kind = item
            .get("testtype")
            .or_else(|| item.get("type"))
            .and_then(Json::as_str);
        // Without the function's name such a test cannot be run.
        if function.is_none() && matches!(named_kind, Some("functional" | "function_call")) {
            return None;
        }
        let by_stdin = matches!(named_kind, Some("stdin" | "stdin_stdout"));
        case(
            item.get("input")?,
            item.get("output")?,
            function.filter(|_| !by_stdin),
            wrapped,
        )
    });
    Some(TestSuite::cases(cases.collect::<Option<_>>()?))
}

fn apps(json: &Json) -> Option<TestSuite> {
    let inputs = json["inputs"].as_array()?;
    let outputs = json.get("outputs")?.as_array()?;
    let function = function_name(json);
    let wrapped = outputs.iter().all(is_wrapped);
    let cases = inputs
        .iter()
        .zip(outputs)
        .map(|(input, output)| case(input, output, function, wrapped));
    Some(TestSuite::cases(cases.collect::<Option<_>>()?))
}

fn is_wrapped(output: &Json) -> bool {
    output.as_array().is_some_and(|items| items.len() == 1)
}

fn case(input: &Json, output: &Json, function: Option<&str>, wrapped: bool) -> Option<TestCase> {
    let Some(function) = function else {
        return Some(TestCase {
            request: Request::Program {
                stdin: printed_text(input)?,
            },
            expectation: Expectation::Output(printed_text(output)?),
        });
    };
    let args = match input {
        Json::Array(items) => items.iter().map(Value::from).collect(),
        Json::String(text) => text
            .lines()
            .filter(|line| !line.trim().is_empty())
            .map(|line| {
                serde_json::from_str(line)
                    .ok()
                    .map(|json: Json| Value::from(&json))
            })
            .collect::<Option<_>>()?,
        _ => return None,
    };
    let parsed = output
        .as_str()
        .and_then(|text| serde_json::from_str::<Json>(text).ok());
    let mut accepted = vec![Value::from(parsed.as_ref().unwrap_or(output))];
    if wrapped {
        accepted.push(Value::from(&output[0]));
    }
    Some(TestCase {
        request: Request::Call {
            function: function.to_owned(),
            args,
            kwargs: Vec::new(),
        },
        expectation: Expectation::JsonOneOf(accepted),
    })
}

/// Text of a stream: a string, or an array of lines.
fn printed_text(json: &Json) -> Option<String> {
    match json {
        Json::String(text) => Some(text.clone()),
        Json::Array(_) => Some(strings(json)?.join("\n")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cases(reference: &str) -> Vec<TestCase> {
        match TestSuite::from_json(reference).unwrap().tests {
            Tests::Cases(cases) => cases,
            Tests::Asserts(source) => panic!("asserts: {source}"),
        }
    }

    #[test]
    fn a_reference_without_tests_decides_nothing() {
        for (reference, why) in [
            ("  ", Unverifiable::EmptyReference),
            ("42", Unverifiable::UnreadableReference),
            ("{}", Unverifiable::UnreadableReference),
            ("not json", Unverifiable::UnreadableReference),
            ("[]", Unverifiable::NoTests),
            (r#"{"inputs": [], "outputs": []}"#, Unverifiable::NoTests),
            (r#"{"test_cases": []}"#, Unverifiable::NoTests),
            (r#"{"test_list": []}"#, Unverifiable::NoTests),
            (
                r#"{"entry_point": "f", "test": " "}"#,
                Unverifiable::NoTests,
            ),
            (
                r#"{"inputs": ["1"], "outputs": []}"#,
                Unverifiable::Tests("1 inputs and 0 outputs".to_owned()),
            ),
            (
                r#"[{"input": "1", "output": "1", "testtype": "functional"}]"#,
                Unverifiable::UnreadableReference,
            ),
        ] {
            assert_eq!(TestSuite::from_json(reference), Err(why), "{reference}");
        }
    }

    #[test]
    fn streams_are_compared_without_a_function_name() {
        let [case] = &cases(r#"{"inputs": [["1", "2"]], "outputs": ["3\n"]}"#)[..] else {
            panic!("one case");
        };
        assert_eq!(
            case.request,
            Request::Program {
                stdin: "1\n2".into()
            }
        );
        assert_eq!(case.expectation, Expectation::Output("3\n".into()));
    }

    #[test]
    fn calls_come_in_two_spellings() {
        let apps = cases(r#"{"fn_name": "f", "inputs": [[1, [2]]], "outputs": [[3]]}"#);
        let live = cases(
            r#"{"test_cases": [{"input": "1\n[2]", "output": "[3]", "testtype": "functional"}], "fn_name": "f"}"#,
        );
        assert_eq!(apps[0].request, live[0].request);
        let three = Value::List(vec![3.into()]);
        assert_eq!(
            apps[0].expectation,
            Expectation::JsonOneOf(vec![three.clone(), 3.into()])
        );
        assert_eq!(live[0].expectation, Expectation::JsonOneOf(vec![three]));
    }

    #[test]
    fn a_completion_follows_the_prompt_and_a_definition_replaces_it() {
        let suite = TestSuite {
            context: "import math\n\ndef f(x):\n    \"\"\"Root.\"\"\"\n".into(),
            entry: Some("f".into()),
            tests: Tests::Asserts("assert f(4) == 2".into()),
        };
        assert!(
            suite
                .program("    return math.sqrt(x)\n")
                .contains("\"\"\"\n    return")
        );
        let whole = suite.program("def f(x):\n    return 2");
        assert!(whole.starts_with("import math") && whole.ends_with("\n\ndef f(x):\n    return 2"));
        let headed = TestSuite {
            context: "def f(x):\n".into(),
            ..suite.clone()
        };
        assert!(
            headed
                .program("def f(x):\n    return 2")
                .starts_with("def f(x): pass\n\ndef")
        );
        assert_eq!(
            suite.program("from __future__ import annotations"),
            "from __future__ import annotations"
        );
    }
}
