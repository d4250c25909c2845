//! The verifier for code: extraction, tests, comparison, verdict.

use std::collections::HashMap;
use std::fmt;
use std::ops::{ControlFlow, Range};
use std::sync::{Arc, Mutex, PoisonError};

use super::execute::execute;
use super::extract::{CodeBlock, CodeExtraction, defines};
use super::job::{Failure, Limits, Observation, Request};
use super::outcome::{Wrong, judge, reason};
use super::pool::SandboxPool;
use super::python::PRELUDE;
use super::remote::RemoteExecutor;
use super::suite::{Expectation, TestCase, TestSuite, Tests};
use super::worker::Converted;
use crate::reward::{RewardFn, Sample};
use crate::verdict::{Fault, Incorrect, Outcome, Unverifiable, Verdict};
use crate::verifier::{Verifier, verify_parallel};

/// Judges Python code by running tests; the reference is a [`TestSuite`] as JSON.
///
/// A response is right when every test passes. Tests run one after the other and stop at the first
/// that fails; [`report`](Self::report) runs all of them.
///
/// The verdict is formed outside of the sandbox: inside, the code gets arguments or standard input,
/// and whatever comes back is compared here with values that were never inside.
#[derive(Clone)]
pub struct CodeVerifier {
    backend: Backend,
    extraction: CodeExtraction,
    tolerance: Option<f64>,
    prepared: Arc<Mutex<HashMap<String, Prepared>>>,
}

#[derive(Clone)]
enum Backend {
    Local(SandboxPool),
    Remote(Arc<dyn RemoteExecutor>, Limits),
}

type Prepared = Result<Arc<Problem>, Unverifiable>;

/// A suite whose tests are all requests with expectations.
#[derive(Debug)]
struct Problem {
    suite: TestSuite,
    cases: Vec<TestCase>,
}

impl Problem {
    /// Functions and classes of the solution that the tests call; none where it is a program.
    fn names(&self) -> Vec<&str> {
        let requests = self.cases.iter().map(|case| &case.request);
        let called = requests.flat_map(|request| match request {
            Request::Call { function, .. } => std::slice::from_ref(function),
            Request::Judge(program) => program.names.as_slice(),
            Request::Program { .. } => &[],
        });
        let mut names: Vec<&str> = called.map(String::as_str).collect();
        names.dedup();
        names
    }

    /// The first of them that the program does not define.
    fn missing(&self, program: &str) -> &str {
        let names = self.names();
        let missing = names.iter().find(|name| !defines(program, name));
        missing.or(names.first()).copied().unwrap_or_default()
    }
}

/// What each test of one response came to.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct CodeReport {
    /// The code in the response.
    pub span: Range<usize>,
    /// For each test in order: nothing when it passed, or why it did not.
    pub tests: Vec<Option<Incorrect>>,
    /// For each test in order: what the code returned, printed or raised.
    pub observations: Vec<Observation>,
}

impl CodeReport {
    /// How many tests passed.
    #[must_use]
    pub fn passed(&self) -> usize {
        self.tests.iter().filter(|test| test.is_none()).count()
    }

    /// The share of tests that passed.
    #[must_use]
    pub fn share(&self) -> f64 {
        self.passed() as f64 / self.tests.len() as f64
    }

    fn verdict(self) -> Verdict {
        let failed = self.tests.into_iter().flatten().next();
        failed
            .map_or_else(Verdict::correct, Verdict::incorrect)
            .at(self.span)
    }
}

/// Longest program that is run, in bytes. A message to the sandbox may be longer.
const LONGEST_PROGRAM: usize = 1 << 22;
/// Problems whose tests are kept ready. Past it all are forgotten, which costs one conversion each.
const MAX_PREPARED: usize = 8192;

impl CodeVerifier {
    /// Runs code in the pool's sandboxes.
    #[must_use]
    pub fn new(pool: SandboxPool) -> Self {
        Self::with_backend(Backend::Local(pool))
    }

    /// Runs code through an executor elsewhere. Assert-style tests need a sandbox here, which turns
    /// them into data; without one they are unverifiable.
    #[must_use]
    pub fn remote(executor: Arc<dyn RemoteExecutor>, limits: Limits) -> Self {
        Self::with_backend(Backend::Remote(executor, limits))
    }

    fn with_backend(backend: Backend) -> Self {
        Self {
            backend,
            extraction: CodeExtraction::default(),
            tolerance: None,
            prepared: Arc::default(),
        }
    }

    /// Looks for code by other rules.
    #[must_use]
    pub fn with_extraction(mut self, extraction: CodeExtraction) -> Self {
        self.extraction = extraction;
        self
    }

    /// Lets floating-point results differ by a share of their magnitude, such as `1e-9`, where a data
    /// set's tests were made on another machine. Whole numbers stay exact.
    #[must_use]
    pub fn with_tolerance(mut self, tolerance: f64) -> Self {
        self.tolerance = Some(tolerance);
        self
    }

    /// Runs all tests, also after a failure.
    ///
    /// # Errors
    /// The verdict, when it is already known without running anything or when nothing can be said:
    /// no code, no tests, a fault.
    pub fn report(&self, response: &str, reference: &str) -> Result<CodeReport, Verdict> {
        self.run(response, reference, false)
    }

    fn run(&self, response: &str, reference: &str, stop: bool) -> Result<CodeReport, Verdict> {
        let problem = self.prepare(reference)?;
        let CodeBlock { span, code } = self.extraction.find(response, &problem.names())?;
        let program = problem.suite.program(&code);
        if program.len() > LONGEST_PROGRAM {
            return Err(Verdict::incorrect(Incorrect::TooComplex).at(span));
        }
        let mut tests = Vec::with_capacity(problem.cases.len());
        let mut observations = Vec::with_capacity(problem.cases.len());
        let mut bad_tests = false;
        self.execute(&program, &problem, &mut |observed| {
            let index = tests.len();
            let case = &problem.cases[index];
            let outcome = match judge(&observed, &case.expectation, self.tolerance) {
                Ok(true) => None,
                Ok(false) => Some(Incorrect::FailedTest { index }),
                Err(Wrong::Why(Failure::NoFunction)) => Some(Incorrect::MissingFunction {
                    name: problem.missing(&program).to_owned(),
                }),
                Err(Wrong::Why(failure)) => Some(reason(failure, index)),
                Err(Wrong::BadTests) => {
                    bad_tests = true;
                    return ControlFlow::Break(());
                }
            };
            let failed = outcome.is_some();
            tests.push(outcome);
            observations.push(observed);
            if failed && stop {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })
        .map_err(Verdict::fault)?;
        if bad_tests {
            let why = "they ended before they called the solution".to_owned();
            return Err(Verdict::unverifiable(Unverifiable::Tests(why)).at(span));
        }
        let report = CodeReport {
            span,
            tests,
            observations,
        };
        // A pass is as many results as there are tests, and there is at least one.
        let complete = report.tests.len() == problem.cases.len() && !report.tests.is_empty();
        if complete || report.tests.iter().any(Option::is_some) {
            Ok(report)
        } else {
            Err(Verdict::fault(Fault::Remote(format!(
                "{} results for {} tests",
                report.tests.len(),
                problem.cases.len()
            ))))
        }
    }

    fn execute(
        &self,
        program: &str,
        problem: &Problem,
        each: &mut dyn FnMut(Observation) -> ControlFlow<()>,
    ) -> Result<(), Fault> {
        let (cases, with_prelude) = (&problem.cases, problem.suite.has_prelude());
        match &self.backend {
            Backend::Local(pool) => {
                let requests = cases.iter().map(|case| &case.request);
                execute(pool, program, with_prelude, requests, each)
                    .map_err(|error| Fault::Sandbox(error.to_string()))
            }
            Backend::Remote(executor, limits) => {
                let requests: Vec<Request> =
                    cases.iter().map(|case| case.request.clone()).collect();
                // Such an import has to come first, and says that the code stands for itself.
                let program = if with_prelude && !program.contains("from __future__ import") {
                    format!("{PRELUDE}\n{program}")
                } else {
                    program.to_owned()
                };
                let observed = executor
                    .execute(&program, &requests, limits)
                    .map_err(Fault::Remote)?;
                if observed.len() > cases.len() {
                    let why = format!("{} results for {} tests", observed.len(), cases.len());
                    return Err(Fault::Remote(why));
                }
                let _ = observed.into_iter().try_for_each(each);
                Ok(())
            }
        }
    }

    /// The problem of a reference, converted once.
    fn prepare(&self, reference: &str) -> Result<Arc<Problem>, Verdict> {
        let cache = || self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        let known = cache().get(reference).cloned();
        let prepared = match known {
            Some(prepared) => prepared,
            None => {
                let prepared = match TestSuite::from_json(reference) {
                    Ok(suite) => self.convert(suite).map_err(Verdict::fault)?,
                    Err(why) => Err(why),
                };
                let mut cache = cache();
                if cache.len() >= MAX_PREPARED {
                    cache.clear();
                }
                cache.insert(reference.to_owned(), prepared.clone());
                prepared
            }
        };
        prepared.map_err(Verdict::unverifiable)
    }

    fn convert(&self, suite: TestSuite) -> Result<Prepared, Fault> {
        let source = match &suite.tests {
            Tests::Cases(cases) => {
                let cases = cases.clone();
                return Ok(Ok(Arc::new(Problem { suite, cases })));
            }
            Tests::Asserts(source) => source,
        };
        let Backend::Local(pool) = &self.backend else {
            return Ok(Err(Unverifiable::Other(
                "assert-style tests need a sandbox on this machine",
            )));
        };
        let converted = pool
            .worker()
            .get()
            .convert(&suite.context, source, suite.entry.as_deref())
            .map_err(|error| Fault::Sandbox(error.to_string()))?;
        Ok(match converted {
            Err(why) => Err(Unverifiable::Tests(why)),
            Ok(converted) => match cases(converted) {
                cases if cases.is_empty() => Err(Unverifiable::NoTests),
                cases => Ok(Arc::new(Problem { suite, cases })),
            },
        })
    }
}

impl fmt::Debug for CodeVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let backend = match &self.backend {
            Backend::Local(pool) => format!("{pool:?}"),
            Backend::Remote(_, limits) => format!("remote, {limits:?}"),
        };
        f.debug_struct("CodeVerifier")
            .field("backend", &backend)
            .field("extraction", &self.extraction)
            .field("tolerance", &self.tolerance)
            .finish_non_exhaustive()
    }
}

impl Verifier for CodeVerifier {
    fn verify(&self, response: &str, reference: &str) -> Verdict {
        self.run(response, reference, true)
            .map_or_else(|verdict| verdict, CodeReport::verdict)
    }

    /// As many at a time as the pool has workers.
    fn verify_batch(&self, pairs: &[(&str, &str)]) -> Vec<Verdict> {
        verify_parallel(self, pairs, self.parallelism())
    }

    fn parallelism(&self) -> usize {
        match &self.backend {
            Backend::Local(pool) => pool.workers(),
            Backend::Remote(..) => 1,
        }
    }

    fn check_reference(&self, reference: &str) -> Result<(), Unverifiable> {
        match self.prepare(reference) {
            Ok(_) => Ok(()),
            Err(verdict) => match verdict.outcome {
                Outcome::Unverifiable(why) => Err(why),
                // The machine's trouble says nothing about the reference.
                _ => Ok(()),
            },
        }
    }
}

/// The share of tests that pass, as a reward: the `code` reward of open-r1. The reward of
/// [`Accuracy`](crate::Accuracy), 1 only when all pass, is harder to game.
///
/// A response that was graded and is right has its share. One that is wrong is run again, because a verdict
/// stops at the first test that fails.
#[derive(Debug, Clone)]
pub struct PassRate(pub CodeVerifier);

impl RewardFn for PassRate {
    fn name(&self) -> &str {
        "code_reward"
    }

    fn rewards(&self, group: &[Sample<'_>]) -> Vec<Option<f64>> {
        let share = |sample: &Sample<'_>| match sample.verdict {
            Some(verdict) if verdict.is_correct() => Some(1.0),
            _ => match self.0.report(sample.response, sample.reference) {
                Ok(report) => Some(report.share()),
                Err(verdict) => verdict.reward(),
            },
        };
        group.iter().map(share).collect()
    }
}

fn cases(converted: Converted) -> Vec<TestCase> {
    let calls = converted.calls.into_iter().map(|call| TestCase {
        request: Request::Call {
            function: call.function,
            args: call.args,
            kwargs: call.kwargs,
        },
        expectation: match call.relation.as_str() {
            "is" => Expectation::Is(call.expected),
            "true" => Expectation::Truth(true),
            "false" => Expectation::Truth(false),
            _ => Expectation::Equals(call.expected),
        },
    });
    let rest = converted.rest.map(|program| TestCase {
        request: Request::Judge(program),
        expectation: Expectation::Passes,
    });
    calls.chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::{ScriptedExecutor, Value};

    const ADD: &str = r#"{"fn_name": "add", "inputs": [[1, 2], [3, 4]], "outputs": [3, 7]}"#;

    fn verdict(script: Result<Vec<Observation>, String>) -> Verdict {
        let executor = ScriptedExecutor::new([script]);
        CodeVerifier::remote(Arc::new(executor), Limits::default()).verify("code", ADD)
    }

    fn returned(value: i64) -> Observation {
        Observation::Returned(Value::from(value))
    }

    #[test]
    fn a_pass_is_one_right_result_for_each_test() {
        assert!(verdict(Ok(vec![returned(3), returned(7)])).is_correct());
        assert_eq!(
            verdict(Ok(vec![returned(3), returned(8)])).outcome,
            Outcome::Incorrect(Incorrect::FailedTest { index: 1 })
        );
    }

    #[test]
    fn missing_and_extra_results_are_faults() {
        for results in [
            vec![],
            vec![returned(3)],
            vec![returned(3), returned(7), returned(7)],
        ] {
            let verdict = verdict(Ok(results));
            assert!(matches!(verdict.outcome, Outcome::Fault(Fault::Remote(_))));
        }
        assert_eq!(verdict(Err("down".into())).reward(), None);
    }

    #[test]
    fn an_answer_to_another_question_is_wrong() {
        let printed = Observation::Printed(b"3".to_vec());
        assert_eq!(verdict(Ok(vec![printed, returned(7)])).reward(), Some(0.0));
        let judged = Observation::Judged(true);
        assert_eq!(verdict(Ok(vec![judged, returned(7)])).reward(), Some(0.0));
    }

    #[test]
    fn asserts_without_a_sandbox_are_unverifiable() {
        let executor = Arc::new(ScriptedExecutor::default());
        let verifier = CodeVerifier::remote(executor, Limits::default());
        let verdict = verifier.verify("def f(): return 1", r#"["assert f() == 1"]"#);
        assert!(matches!(verdict.outcome, Outcome::Unverifiable(_)));
    }
}
