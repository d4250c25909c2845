//! What a test came to: the comparison, and the reason where there is nothing to compare.

use super::job::{Failure, Observation};
use super::output::same_output;
use super::suite::Expectation;
use super::value::Value;
use crate::verdict::Incorrect;

/// Why nothing was compared.
pub(super) enum Wrong {
    Why(Failure),
    BadTests,
}

/// Whether what was observed is what was expected.
pub(super) fn judge(
    observed: &Observation,
    expected: &Expectation,
    tolerance: Option<f64>,
) -> Result<bool, Wrong> {
    let same = |a: &Value, b: &Value| match tolerance {
        Some(tolerance) => a.approx_eq(b, tolerance),
        None => a.python_eq(b),
    };
    Ok(match (observed, expected) {
        (Observation::Returned(value), Expectation::Equals(expected)) => same(value, expected),
        (Observation::Returned(value), Expectation::JsonOneOf(accepted)) => {
            let value = value.clone().tuples_as_lists();
            accepted.iter().any(|expected| same(&value, expected))
        }
        (Observation::Returned(value), Expectation::Is(expected)) => {
            value.is_same_singleton(expected)
        }
        (Observation::Returned(value), Expectation::Truth(truth)) => value.is_truthy() == *truth,
        (Observation::Printed(bytes), Expectation::Output(expected)) => {
            str::from_utf8(bytes).is_ok_and(|printed| same_output(expected, printed, tolerance))
        }
        (Observation::Judged(passed), Expectation::Passes) => *passed,
        (Observation::BadTests, _) => return Err(Wrong::BadTests),
        (Observation::Failed(failure), _) => return Err(Wrong::Why(failure.clone())),
        // An answer to another question.
        _ => return Err(Wrong::Why(Failure::Malformed)),
    })
}

/// The failure of a test as a verdict names it.
pub(super) fn reason(failure: Failure, index: usize) -> Incorrect {
    let at = Some(index);
    match failure {
        Failure::LoadRaised(error) if error.kind == "MemoryError" => {
            Incorrect::MemoryLimit { index: None }
        }
        Failure::Raised(error) if error.kind == "MemoryError" => {
            Incorrect::MemoryLimit { index: at }
        }
        Failure::LoadRaised(error) => Incorrect::Crashed {
            index: None,
            error: error.line(),
        },
        Failure::Raised(error) => Incorrect::Crashed {
            index: at,
            error: error.line(),
        },
        Failure::Exited(status) => Incorrect::Crashed {
            index: at,
            error: format!("it ended with status {status} and without a result"),
        },
        Failure::EndedSandbox => Incorrect::Crashed {
            index: at,
            error: "its sandbox ended with it, twice".to_owned(),
        },
        Failure::Killed(signal) => Incorrect::Crashed {
            index: at,
            error: format!("signal {signal} ended it"),
        },
        Failure::NoFunction => Incorrect::MissingFunction {
            name: String::new(),
        },
        Failure::Unsupported(_) => Incorrect::FailedTest { index },
        Failure::OutOfTime => Incorrect::Timeout { index: at },
        Failure::TooMuchOutput => Incorrect::OutputLimit { index: at },
        Failure::Malformed => Incorrect::ForgedFrame { index },
    }
}
