//! Conversations as text, the way transformers renders them.

mod json;
mod python;

use std::collections::BTreeMap;
use std::path::Path;

use minijinja::value::{Kwargs, Rest, Serde, ValueKind};
use minijinja::{Environment, Error as JinjaError, ErrorKind, Output, State, Value};
use minijinja_contrib::globals::{cycler, joiner};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::error::{Error, Result};

/// A chat template in Jinja, rendered as transformers' `apply_chat_template` does: the same block
/// trimming, the methods of Python's strings and dictionaries, `tojson` without HTML escapes,
/// `raise_exception`, `strftime_now`, `namespace`, and loop controls. The tags
/// `{% generation %}` of training templates mark text and print nothing.
#[derive(Debug)]
pub struct ChatTemplate {
    source: String,
    environment: Environment<'static>,
    /// `bos_token`, `eos_token` and the like, which templates may use.
    special_tokens: Vec<(String, String)>,
}

/// One message of a conversation. Whatever else serialises to a map with `role` and `content` can
/// be rendered too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Message {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: String,
    /// The text.
    pub content: String,
}

impl Message {
    /// From role and text.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            content: content.into(),
        }
    }
}

/// How a conversation is rendered. Names and defaults as in `apply_chat_template`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ChatOptions {
    /// End with what begins an answer of the assistant. Default false.
    pub add_generation_prompt: bool,
    /// End inside the last message, so that the model goes on with it: the way to put a guided
    /// prefix in front of the model as text. Default false; excludes `add_generation_prompt`.
    pub continue_final_message: bool,
    /// JSON schemas of tools, whose fields are printed in the order that they have here. Default
    /// none.
    pub tools: Option<OrderedJson>,
    /// Further variables of the template, such as `enable_thinking`. Default none.
    pub variables: BTreeMap<String, Json>,
}

/// JSON whose objects keep the order of their fields, which those of `serde_json` do not.
///
/// ```
/// use g2rpo_libtorch::OrderedJson;
/// let tools: OrderedJson = serde_json::from_str(r#"[{"name": "add", "arguments": {}}]"#)?;
/// assert_eq!(serde_json::to_string(&tools)?, r#"[{"name":"add","arguments":{}}]"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OrderedJson(Value);

const NAME: &str = "chat_template";
/// Marks the end of the last message while it is rendered; transformers' own marker, since a
/// template sees it.
const TAG: &str = "CONTINUE_FINAL_MESSAGE_TAG ";

impl ChatTemplate {
    /// Compiles a template. `special_tokens` are variables that it may use, such as `bos_token`.
    ///
    /// # Errors
    /// [`Error::Template`] with the line that does not parse.
    pub fn new(
        source: impl Into<String>,
        special_tokens: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self> {
        let source = source.into();
        let mut environment = Environment::new();
        let syntax = minijinja::syntax::SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()
            .map_err(template_error)?;
        environment.set_syntax(syntax);
        environment.set_unknown_method_callback(python::method);
        environment.set_formatter(print);
        environment.add_filter("tojson", to_json);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        environment.add_function("cycler", |items: Rest<Value>| cycler(items.0));
        environment.add_function("joiner", joiner);
        environment
            .add_template_owned(NAME, plain_blocks(&source))
            .map_err(template_error)?;
        Ok(Self {
            source,
            environment,
            special_tokens: special_tokens.into_iter().collect(),
        })
    }

    /// The template of a checkpoint folder: `chat_template.jinja`, or else the field
    /// `chat_template` of its `tokenizer_config.json` (of several, the one named `default`);
    /// `None` if there is neither.
    ///
    /// # Errors
    /// [`Error::Io`] for a file that cannot be read, [`Error::Template`] for one that does not
    /// parse, or for several of which none is the default.
    pub fn from_dir(dir: &Path, tokenizer_config: &Json) -> Result<Option<Self>> {
        let path = dir.join("chat_template.jinja");
        let source = match (path.exists(), tokenizer_config.get("chat_template")) {
            (true, _) => std::fs::read_to_string(&path).map_err(Error::io(&path))?,
            (false, Some(Json::String(source))) => source.clone(),
            (false, Some(Json::Array(named))) => {
                let default = named.iter().find(|t| t["name"] == "default");
                match default.and_then(|t| t["template"].as_str()) {
                    Some(source) => source.to_owned(),
                    None if named.is_empty() => return Ok(None),
                    None => {
                        let names: Vec<&str> =
                            named.iter().filter_map(|t| t["name"].as_str()).collect();
                        return Err(Error::Template(format!(
                            "tokenizer_config.json has templates named {}, and none named default; \
                             put the one to be used into chat_template.jinja",
                            names.join(", ")
                        )));
                    }
                }
            }
            _ => return Ok(None),
        };
        let tokens = tokenizer_config.as_object().into_iter().flatten();
        let special_tokens = tokens
            .filter(|(name, _)| name.ends_with("_token"))
            .filter_map(|(name, value)| {
                let text = value.as_str().or_else(|| value.get("content")?.as_str())?;
                Some((name.clone(), text.to_owned()))
            });
        Self::new(source, special_tokens).map(Some)
    }

    /// An error with the line of the template where it arose, which names what is undefined.
    fn located(&self, error: JinjaError) -> Error {
        let line = error
            .line()
            .filter(|_| error.kind() == ErrorKind::UndefinedError);
        match line.and_then(|n| self.source.lines().nth(n.saturating_sub(1))) {
            None => template_error(error),
            Some(line) => {
                let line: String = line.trim().chars().take(100).collect();
                Error::Template(format!("{} in `{line}`", message(&error)))
            }
        }
    }

    /// The template's text.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// A conversation as text. The text spells the special tokens; encode it without adding any.
    ///
    /// # Errors
    /// [`Error::Template`] with what the template raised, if the conversation does not fit it;
    /// [`Error::Invalid`] if the last message is to be continued but is not in the text.
    pub fn render<M: Serialize>(&self, messages: &[M], options: &ChatOptions) -> Result<String> {
        if options.continue_final_message && options.add_generation_prompt {
            return Err(Error::invalid(
                "continue_final_message",
                "excludes add_generation_prompt: an answer is either begun or gone on with",
            ));
        }
        let mut conversation = (Value::from(Serde(messages)).try_iter())
            .map_err(template_error)?
            .map(|m| alias_reasoning(&m))
            .collect::<Result<Vec<_>>>()?;
        let final_text = match (options.continue_final_message, conversation.last_mut()) {
            (false, _) => None,
            (true, Some(message)) => Some(tag_content(message)?),
            (true, None) => {
                return Err(Error::invalid("messages", "there is none to continue"));
            }
        };
        let mut variables: Vec<(&str, Value)> = vec![
            ("messages", Value::from(conversation)),
            ("tools", Value::from(Serde(&options.tools))),
            ("documents", Value::from(())),
            (
                "add_generation_prompt",
                Value::from(options.add_generation_prompt),
            ),
        ];
        let tokens = self.special_tokens.iter();
        variables.extend(tokens.map(|(name, text)| (name.as_str(), Value::from(text.as_str()))));
        let more = options.variables.iter();
        variables.extend(more.map(|(name, value)| (name.as_str(), Value::from(Serde(value)))));
        let text = (self.environment.get_template(NAME))
            .and_then(|t| t.render(Value::from_pairs(variables)))
            .map_err(|error| self.located(error))?;
        match final_text {
            None => Ok(text),
            Some(final_text) => cut_at_tag(text, &final_text),
        }
    }
}

/// Reasoning under any of its names is found under all that templates read, as in transformers.
fn alias_reasoning(message: &Value) -> Result<Value> {
    let names = ["reasoning_content", "thinking", "reasoning"];
    let get = |name: &str| {
        message
            .get_attr(name)
            .ok()
            .filter(|v| !v.is_undefined() && !v.is_none())
    };
    let Some(reasoning) = names.into_iter().find_map(get) else {
        return Ok(message.clone());
    };
    let mut pairs = vec![(Value::from("thinking"), reasoning.clone())];
    for (key, value) in pairs_of(message)? {
        set(&mut pairs, key, value);
    }
    set(&mut pairs, Value::from("reasoning_content"), reasoning);
    Ok(Value::from_pairs(pairs))
}

fn pairs_of(map: &Value) -> Result<Vec<(Value, Value)>> {
    (map.try_iter().map_err(template_error)?)
        .map(|key| {
            let value = map.get_item(&key).map_err(template_error)?;
            Ok((key, value))
        })
        .collect()
}

/// Replaces in place or appends, as a dictionary of Python does.
fn set(pairs: &mut Vec<(Value, Value)>, key: Value, value: Value) {
    match pairs.iter_mut().find(|(k, _)| *k == key) {
        Some(pair) => pair.1 = value,
        None => pairs.push((key, value)),
    }
}

/// Puts the marker behind the text of a message and returns the text.
fn tag_content(message: &mut Value) -> Result<String> {
    let mut pairs = pairs_of(message)?;
    let content = pairs
        .iter_mut()
        .find(|(key, _)| key.as_str() == Some("content"));
    let Some((text, value)) =
        content.and_then(|(_, value)| Some((value.as_str()?.to_owned(), value)))
    else {
        return Err(Error::invalid(
            "messages",
            "the last one has no text as content to continue",
        ));
    };
    *value = Value::from(format!("{text}{TAG}"));
    *message = Value::from_pairs(pairs);
    Ok(text)
}

fn cut_at_tag(mut text: String, final_text: &str) -> Result<String> {
    let at = text.rfind(TAG.trim_end());
    let Some(at) = at.filter(|_| text.contains(final_text.trim())) else {
        return Err(Error::invalid(
            "continue_final_message",
            "the template leaves out the last message, or part of it",
        ));
    };
    // A template that trims messages has eaten the marker's blank; then the blanks that end the
    // message go as well.
    let keeps_blanks = text[at..].starts_with(TAG);
    text.truncate(at);
    if !keeps_blanks {
        text.truncate(text.trim_end().len());
    }
    Ok(text)
}

/// `{% generation %}` blocks as `{% with %}` blocks, which open a scope and print nothing just the
/// same; marks of whitespace control stay.
fn plain_blocks(source: &str) -> String {
    let mut text = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(end) = rest[start..].find("%}").map(|n| start + n + 2) else {
            break;
        };
        text.push_str(&rest[..start]);
        let tag = &rest[start..end];
        let name = tag[2..tag.len() - 2].trim_matches(['-', '+']).trim();
        match name {
            "generation" => text.push_str(&tag.replace("generation", "with")),
            "endgeneration" => text.push_str(&tag.replace("endgeneration", "endwith")),
            _ => text.push_str(tag),
        }
        rest = &rest[end..];
    }
    text.push_str(rest);
    text
}

/// Prints as Python does where Jinja for Rust differs.
fn print(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), JinjaError> {
    let text = match value.kind() {
        ValueKind::None => "None",
        ValueKind::Bool if value.is_true() => "True",
        ValueKind::Bool => "False",
        ValueKind::Number if !value.is_integer() => match f64::try_from(value.clone()) {
            Ok(x) if x.is_finite() => &json::python_float(x),
            _ => return minijinja::escape_formatter(out, state, value),
        },
        _ => return minijinja::escape_formatter(out, state, value),
    };
    out.write_str(text)
        .map_err(|e| JinjaError::new(ErrorKind::WriteFailure, e.to_string()))
}

fn to_json(value: &Value, options: Kwargs) -> Result<String, JinjaError> {
    let indent: Option<usize> = options.get("indent")?;
    let ascii: Option<bool> = options.get("ensure_ascii")?;
    let separators: Option<Vec<String>> = options.get("separators")?;
    let separators = match separators.as_deref() {
        None => None,
        Some([comma, colon]) => Some((comma.clone(), colon.clone())),
        Some(_) => {
            return Err(JinjaError::new(
                ErrorKind::InvalidOperation,
                "separators of tojson are two texts",
            ));
        }
    };
    let sort_keys: Option<bool> = options.get("sort_keys")?;
    options.assert_all_used()?;
    let style = json::Style {
        indent,
        ascii: ascii.unwrap_or(false),
        separators,
        sort_keys: sort_keys.unwrap_or(false),
    };
    json::dumps(value, style).map_err(|e| {
        JinjaError::new(
            ErrorKind::InvalidOperation,
            format!("cannot become JSON: {e}"),
        )
    })
}

fn raise_exception(message: String) -> Result<String, JinjaError> {
    Err(JinjaError::new(ErrorKind::InvalidOperation, message))
}

fn strftime_now(format: String) -> Result<String, JinjaError> {
    let time = jiff::ZonedDateTime::now();
    jiff::fmt::strtime::format(&format, &time)
        .map_err(|e| JinjaError::new(ErrorKind::InvalidOperation, e.to_string()))
}

fn template_error(error: JinjaError) -> Error {
    Error::Template(message(&error))
}

fn message(error: &JinjaError) -> String {
    let place = error
        .line()
        .map_or(String::new(), |n| format!(" (line {n})"));
    let what = error
        .detail()
        .map_or_else(|| error.kind().to_string(), str::to_owned);
    format!("{what}{place}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn render(source: &str, messages: &Json, options: &ChatOptions) -> Result<String> {
        let bos = ("bos_token".to_owned(), "<s>".to_owned());
        let messages = messages.as_array().unwrap();
        ChatTemplate::new(source, [bos])?.render(messages, options)
    }

    fn text(source: &str, messages: &Json) -> String {
        render(source, messages, &ChatOptions::default()).unwrap()
    }

    const PLAIN: &str = "{{ bos_token }}
{%- for message in messages %}
    {%- if message.role == 'system' and not loop.first %}
        {{- raise_exception('System message must come first') }}
    {%- endif %}
    {{- '[' + message['role'] + ']' + message.content + '[end]' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '[assistant]' }}{% endif %}
";

    fn two() -> Json {
        json!([{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "It is "}])
    }

    #[test]
    fn messages_and_special_tokens_are_printed() {
        assert_eq!(
            text(PLAIN, &two()),
            "<s>[user]2+2?[end][assistant]It is [end]"
        );
        let options = ChatOptions {
            add_generation_prompt: true,
            ..ChatOptions::default()
        };
        let user = json!([{"role": "user", "content": "2+2?"}]);
        let prompt = render(PLAIN, &user, &options).unwrap();
        assert_eq!(prompt, "<s>[user]2+2?[end][assistant]");
        let typed = [Message::new("user", "2+2?")];
        let template = ChatTemplate::new(PLAIN, []).unwrap();
        assert_eq!(
            template.render(&typed, &options).unwrap(),
            "[user]2+2?[end][assistant]"
        );
    }

    #[test]
    fn an_unfinished_message_is_left_open() {
        let options = ChatOptions {
            continue_final_message: true,
            ..ChatOptions::default()
        };
        let open = render(PLAIN, &two(), &options).unwrap();
        assert_eq!(open, "<s>[user]2+2?[end][assistant]It is ");
        // A template that trims takes the blank at the end, too.
        let trims = PLAIN.replace("message.content", "message.content | trim");
        let open = render(&trims, &two(), &options).unwrap();
        assert_eq!(open, "<s>[user]2+2?[end][assistant]It is");

        let drops = "{{ messages[0].content }}";
        let err = render(drops, &two(), &options).unwrap_err().to_string();
        assert_eq!(
            err,
            "continue_final_message: the template leaves out the last message, or part of it"
        );
        let err = render(PLAIN, &json!([]), &options).unwrap_err().to_string();
        assert_eq!(err, "messages: there is none to continue");
        let both = ChatOptions {
            add_generation_prompt: true,
            ..options
        };
        let err = render(PLAIN, &two(), &both).unwrap_err().to_string();
        assert!(
            err.starts_with("continue_final_message: excludes add_generation_prompt"),
            "{err}"
        );
    }

    #[test]
    fn python_methods_slices_and_namespaces_work() {
        let source = "{%- set ns = namespace(last=-1) %}
{%- for message in messages[::-1] %}
    {%- if ns.last < 0 and message.role == 'user' and message.content is string and not(message.content.startswith('<r>')) %}
        {%- set ns.last = (messages|length - 1) - loop.index0 %}
    {%- endif %}
{%- endfor %}
{{- ns.last }}{{ '</think>' in messages[1].content }}
{{- messages[1].content.split('</think>')[-1].lstrip('\\n') }}|{{ messages[1].content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].strip('\\n') }}
{%- for key, value in messages[0] | items %} {{ key }}={{ value }}{% if loop.index0 == 1 %}{% break %}{% endif %}{% endfor %}
{{- messages[0].name is defined }}{{ none }}";
        let messages = json!([
            {"role": "user", "content": "<x>"},
            {"role": "assistant", "content": "<think>\nhm\n</think>\n\nyes"}
        ]);
        assert_eq!(
            text(source, &messages),
            "0Trueyes|hm content=<x> role=userFalseNone"
        );
    }

    #[test]
    fn tools_are_json_as_python_writes_it() {
        let options = ChatOptions {
            tools: serde_json::from_str(
                r#"[{"name": "f<>&'", "args": {"z": [1, 2.5, null, true], "é": {}}, "e": []}]"#,
            )
            .ok(),
            ..ChatOptions::default()
        };
        let compact = render("{{ tools[0] | tojson }}", &json!([]), &options).unwrap();
        assert_eq!(
            compact,
            r#"{"name": "f<>&'", "args": {"z": [1, 2.5, null, true], "é": {}}, "e": []}"#
        );
        let wide = render(
            "{{ tools[0].args | tojson(indent=2) }}",
            &json!([]),
            &options,
        )
        .unwrap();
        assert_eq!(
            wide,
            "{\n  \"z\": [\n    1,\n    2.5,\n    null,\n    true\n  ],\n  \"é\": {}\n}"
        );
    }

    #[test]
    fn generation_tags_print_nothing_and_keep_their_scope() {
        let source = "{% set x = 1 %}a\n    {%- generation -%}  {% set x = 2 %} b{{ x }} {%- endgeneration %}\nc{{ x }}";
        assert_eq!(text(source, &json!([])), "a b2c1");
    }

    #[test]
    fn variables_and_reasoning_reach_the_template() {
        let source = "{{ enable_thinking is defined and enable_thinking is false }} {{ messages[0].reasoning_content }} {{ messages[0].thinking }}";
        let mut options = ChatOptions::default();
        options
            .variables
            .insert("enable_thinking".into(), json!(false));
        let messages = json!([{"role": "assistant", "content": "", "reasoning": "why"}]);
        assert_eq!(render(source, &messages, &options).unwrap(), "True why why");
    }

    #[test]
    fn what_a_template_raises_arrives() {
        let late = json!([{"role": "user", "content": ""}, {"role": "system", "content": ""}]);
        let err = render(PLAIN, &late, &ChatOptions::default()).unwrap_err();
        assert_eq!(
            err.to_string(),
            "chat template: System message must come first (line 4)"
        );
        let err = ChatTemplate::new("{% for %}", []).unwrap_err().to_string();
        assert!(
            err.starts_with("chat template: ") && err.ends_with("(line 1)"),
            "{err}"
        );
    }

    #[test]
    fn the_template_of_a_folder_is_found_in_either_place() {
        let dir = tempfile::tempdir().unwrap();
        let config = json!({"bos_token": {"content": "<b>"}, "chat_template": "{{ bos_token }}1"});
        let render = |config: &Json| {
            let template = ChatTemplate::from_dir(dir.path(), config).unwrap();
            template.map(|t| t.render::<Message>(&[], &ChatOptions::default()).unwrap())
        };
        assert_eq!(render(&json!({})), None);
        assert_eq!(render(&config).as_deref(), Some("<b>1"));
        let several = json!({"chat_template": [{"name": "rag", "template": "r"}, {"name": "default", "template": "d"}]});
        assert_eq!(render(&several).as_deref(), Some("d"));
        std::fs::write(dir.path().join("chat_template.jinja"), "{{ bos_token }}2").unwrap();
        assert_eq!(render(&config).as_deref(), Some("<b>2"));
    }

    /// `testdata/libtorch/templates.json`, written by transformers (`make_templates.py`).
    #[test]
    fn functions_are_those_of_python() {
        let text = include_str!("../../../../../testdata/libtorch/templates.json");
        // Fields in the order that the file has them in.
        let file: OrderedJson = serde_json::from_str(text).unwrap();
        let x = OrderedJson(file.0.get_attr("x").unwrap());
        let messages = file.0.get_attr("messages").unwrap();
        let messages: Vec<OrderedJson> = (messages.try_iter().unwrap()).map(OrderedJson).collect();
        let file: Json = serde_json::from_str(text).unwrap();
        for case in file["cases"].as_array().unwrap() {
            let source = case["template"].as_str().unwrap();
            // Jinja for Rust sees `x` as part of the template, so that its fields keep their order.
            let options = ChatOptions {
                tools: Some(x.clone()),
                ..ChatOptions::default()
            };
            let source = format!("{{% set x = tools %}}{source}");
            let got = ChatTemplate::new(&source, []).and_then(|t| t.render(&messages, &options));
            let got = got.map_err(|error| error.to_string());
            match case["text"].as_str() {
                Some(text) => assert_eq!(got.as_deref(), Ok(text), "{source}"),
                None => assert!(got.is_err(), "{source} gave {got:?}"),
            }
        }
    }

    #[test]
    fn what_is_undefined_is_named() {
        let source = "a\n{% if tools.missing.field %}x{% endif %}";
        let err = render(source, &json!([]), &ChatOptions::default()).unwrap_err();
        assert!(
            err.to_string()
                .contains("`{% if tools.missing.field %}x{% endif %}`"),
            "{err}"
        );
    }

    #[test]
    fn named_templates_need_a_default() {
        let dir = tempfile::tempdir().unwrap();
        let named = json!({"chat_template": [
            {"name": "rag", "template": "r"}, {"name": "tool_use", "template": "t"},
        ]});
        let err = ChatTemplate::from_dir(dir.path(), &named)
            .unwrap_err()
            .to_string();
        assert!(
            err.contains("templates named rag, tool_use, and none named default"),
            "{err}"
        );
    }
}
