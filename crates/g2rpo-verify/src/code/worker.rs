//! One worker: a sandbox for the code under test and, where tests are programs, one for them.

use std::time::Duration;

use g2rpo_sandbox::SandboxError;

use super::frame::Frame;
use super::job::{Failure, JudgeProgram, Observation, Request};
use super::marshal::marshal;
use super::slot::{How, Report, Slot};
use super::value::Value;

#[derive(Debug)]
pub(super) struct Worker {
    pub(super) solution: Slot,
    pub(super) judge: Slot,
}

/// Asserts as data, and what is left of the tests.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Converted {
    pub(super) calls: Vec<ConvertedCall>,
    pub(super) rest: Option<JudgeProgram>,
}

/// `assert function(arguments) relation expected`
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ConvertedCall {
    pub(super) function: String,
    pub(super) args: Vec<Value>,
    pub(super) kwargs: Vec<(String, Value)>,
    pub(super) relation: String,
    pub(super) expected: Value,
}

impl Worker {
    /// See [`Slot::spent`].
    pub(super) fn spent(&self) -> Duration {
        self.solution.spent() + self.judge.spent()
    }

    /// What all tests of a completion may spend.
    pub(super) const fn budget(&self) -> Duration {
        self.solution.limits().completion
    }

    /// Runs one request against the open completion, which may spend `left`.
    pub(super) fn run(
        &mut self,
        request: &Request,
        left: Duration,
    ) -> Result<Observation, SandboxError> {
        match request {
            Request::Call {
                function,
                args,
                kwargs,
            } => {
                let report = self.solution.call(function, arguments(args, kwargs))?;
                Ok(returned(report).map_or_else(Observation::Failed, Observation::Returned))
            }
            Request::Program { stdin } => {
                let report = self.solution.program(stdin)?;
                Ok(printed(report))
            }
            Request::Judge(program) => self.run_judge(program, left),
        }
    }

    /// Runs the tests in their process and passes each call on to the solution's.
    fn run_judge(
        &mut self,
        program: &JudgeProgram,
        left: Duration,
    ) -> Result<Observation, SandboxError> {
        self.judge.open_trusted()?;
        let outcome = self.converse(program, left);
        // A solution's process that waits for calls must not wait on.
        self.judge.close()?;
        outcome
    }

    fn converse(
        &mut self,
        program: &JudgeProgram,
        left: Duration,
    ) -> Result<Observation, SandboxError> {
        let failed = |failure| Ok(Observation::Failed(failure));
        let end = self.spent() + left;
        let mut report = self.judge.judge(program)?;
        // Once the tests have an answer, whatever becomes of them may be the solution's doing.
        let mut answered = false;
        loop {
            let request = match report.into_frame() {
                Ok(Frame::Query(request)) => request,
                Ok(Frame::Passed) => return Ok(Observation::Judged(true)),
                Ok(Frame::AssertionFailed) => return Ok(Observation::Judged(false)),
                Ok(Frame::TestsRaised(error)) => return failed(Failure::Raised(error)),
                Err(Failure::OutOfTime) => return failed(Failure::OutOfTime),
                _ if answered => return Ok(Observation::Judged(false)),
                // Trusted tests that end otherwise cannot be used.
                _ => return Ok(Observation::BadTests),
            };
            if !answered {
                match self.solution.serve()?.into_frame() {
                    Ok(Frame::Ready) => {}
                    Ok(Frame::LoadRaised(error)) => return failed(Failure::LoadRaised(error)),
                    Ok(_) => return failed(Failure::Malformed),
                    Err(failure) => return failed(failure),
                }
            }
            if self.spent() >= end {
                return failed(Failure::OutOfTime);
            }
            // What reaches the tests is a value, whatever was written.
            let answer = match self.solution.say(marshal(&request))?.into_frame() {
                Ok(Frame::Value(value)) => ("value", value),
                Ok(Frame::CallBack(call)) => ("callback", call),
                Ok(Frame::Raised(error, details)) => {
                    let parts = vec![error.kind.into(), error.message.into(), details];
                    ("error", Value::Tuple(parts))
                }
                frame => return failed(frame.map_or_else(|failure| failure, unanswered)),
            };
            answered = true;
            let answer = Value::Tuple(vec![answer.0.into(), answer.1]);
            report = self.judge.say(marshal(&answer))?;
        }
    }

    /// Splits assert-style tests, in the process for trusted tests. `Ok(None)` when they cannot be
    /// read.
    pub(super) fn convert(
        &mut self,
        setup: &str,
        tests: &str,
        entry: Option<&str>,
    ) -> Result<Result<Converted, String>, SandboxError> {
        self.judge.open_trusted()?;
        let report = self.judge.convert(setup, tests, entry)?;
        self.judge.close()?;
        Ok(match report.into_frame() {
            Ok(Frame::Table(table)) => {
                read_table(table, setup).ok_or_else(|| "they cannot be made data".to_owned())
            }
            Ok(Frame::BadTests(why)) => Err(why),
            Err(Failure::OutOfTime) => Err("they took too long".to_owned()),
            _ => Err("they ended without a word".to_owned()),
        })
    }
}

/// The marshalled pair of positional and keyword arguments.
fn arguments(args: &[Value], kwargs: &[(String, Value)]) -> Vec<u8> {
    let kwargs = kwargs
        .iter()
        .map(|(name, value)| (Value::Str(name.clone()), value.clone()))
        .collect();
    marshal(&Value::Tuple(vec![
        Value::Tuple(args.to_vec()),
        Value::Dict(kwargs),
    ]))
}

/// What a call of the solution gave.
fn returned(report: Report) -> Result<Value, Failure> {
    match report.into_frame()? {
        Frame::Value(value) => Ok(value),
        frame => Err(unanswered(frame)),
    }
}

/// Why there is no value. A frame that only tests write is as malformed as any other.
fn unanswered(frame: Frame) -> Failure {
    match frame {
        Frame::Raised(error, _) => Failure::Raised(error),
        Frame::LoadRaised(error) => Failure::LoadRaised(error),
        Frame::NoFunction => Failure::NoFunction,
        Frame::Unsupported(kind) => Failure::Unsupported(kind),
        _ => Failure::Malformed,
    }
}

fn printed(report: Report) -> Observation {
    match report.how {
        How::Exit(0) => Observation::Printed(report.data),
        // A program that raised has left word of it.
        How::Exit(status) => Observation::Failed(match Frame::decode(&report.data) {
            Ok(Frame::Raised(error, _)) => Failure::Raised(error),
            _ => Failure::Exited(status),
        }),
        _ => match report.into_frame() {
            Err(failure) => Observation::Failed(failure),
            Ok(_) => Observation::Failed(Failure::Malformed),
        },
    }
}

/// `([(function, arguments, relation, expected)], program, names, check)`
fn read_table(table: Value, setup: &str) -> Option<Converted> {
    let Value::Tuple(items) = table else {
        return None;
    };
    let [
        Value::List(rows),
        Value::Str(tests),
        Value::List(names),
        check,
    ] = <[Value; 4]>::try_from(items).ok()?
    else {
        return None;
    };
    let calls = rows.into_iter().map(read_row).collect::<Option<_>>()?;
    let names = names.into_iter().map(text).collect::<Option<_>>()?;
    let rest = (!tests.is_empty()).then(|| JudgeProgram {
        setup: setup.to_owned(),
        tests,
        names,
        check: text(check),
    });
    Some(Converted { calls, rest })
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::Str(text) => Some(text),
        _ => None,
    }
}

fn read_row(row: Value) -> Option<ConvertedCall> {
    let Value::Tuple(items) = row else {
        return None;
    };
    let [
        Value::Str(function),
        Value::Bytes(arguments),
        Value::Str(relation),
        Value::Bytes(expected),
    ] = <[Value; 4]>::try_from(items).ok()?
    else {
        return None;
    };
    let Value::Tuple(pair) = Value::decode(&arguments).ok()? else {
        return None;
    };
    let [Value::Tuple(args), Value::Dict(kwargs)] = <[Value; 2]>::try_from(pair).ok()? else {
        return None;
    };
    let named = |(name, value)| Some((text(name)?, value));
    let kwargs = kwargs.into_iter().map(named).collect::<Option<_>>()?;
    Some(ConvertedCall {
        function,
        args,
        kwargs,
        relation,
        expected: Value::decode(&expected).ok()?,
    })
}
