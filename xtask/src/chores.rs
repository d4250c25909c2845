//! What people do every day in this checkout.

use crate::error::{Error, Result};
use crate::repo::{self, cargo};
use crate::setup::{self, Wish};

/// `cargo run --example …` with a libtorch. Options before the name go to cargo, the rest to the example.
pub(crate) fn run(args: &[String]) -> Result<u8> {
    let (options, name, rest) = split_run(args)?;
    setup::ensure(Wish::Any)?;
    let mut command = cargo(["run"]);
    command.args(options).args(["--example", name]);
    if !rest.is_empty() {
        command.arg("--").args(rest);
    }
    repo::run(command)
}

fn split_run(args: &[String]) -> Result<(&[String], &str, &[String])> {
    let at = args.iter().position(|arg| !arg.starts_with('-')).ok_or_else(|| {
        Error::new("the name of an example is missing: `cargo xtask run gsm8k_tiny`; `cargo run --example` lists them")
    })?;
    let rest = &args[at + 1..];
    let rest = if rest.first().is_some_and(|arg| arg == "--") {
        &rest[1..]
    } else {
        rest
    };
    Ok((&args[..at], &args[at], rest))
}

/// The whole test suite, or what the arguments select from it.
pub(crate) fn test(args: &[String]) -> Result<u8> {
    setup::ensure(Wish::Any)?;
    let mut command = cargo(["test"]);
    command.args(args);
    repo::run(command)
}

/// The benches, or what the arguments select from them.
pub(crate) fn bench(args: &[String]) -> Result<u8> {
    setup::ensure(Wish::Any)?;
    let mut command = cargo(["bench", "--package", "g2rpo-benches"]);
    command.args(args);
    repo::run(command)
}

/// Formatting and clippy, warnings being errors.
pub(crate) fn lint() -> Result<u8> {
    let code = repo::run(cargo(["fmt", "--all", "--check"]))?;
    if code != 0 {
        return Ok(code);
    }
    setup::ensure(Wish::Any)?;
    repo::run(cargo([
        "clippy",
        "--workspace",
        "--all-targets",
        "--features",
        "g2rpo/yaml,g2rpo/parquet,g2rpo/remote",
        "--",
        "-D",
        "warnings",
    ]))
}

/// The documentation of our crates, warnings being errors.
/// The features of their `[package.metadata.docs.rs]`.
const DOCS_RS: [&[&str]; 2] = [
    &["-p", "g2rpo-libtorch", "--features", "doc-only"],
    &[
        "-p",
        "g2rpo",
        "--no-default-features",
        "--features",
        "doc-only,remote",
    ],
];

pub(crate) fn doc() -> Result<u8> {
    setup::ensure(Wish::Any)?;
    let one = |args: &[&str]| {
        let mut command = cargo(["doc", "--no-deps"]);
        command.args(args).env("RUSTDOCFLAGS", "-D warnings");
        command
    };
    let code = repo::run(one(&["--workspace"]))?;
    if code != 0 {
        return Ok(code);
    }
    // The crates over libtorch as docs.rs builds them, which has none.
    for args in DOCS_RS {
        let mut command = one(args);
        command.env("LIBTORCH", "absent");
        let code = repo::run(command)?;
        if code != 0 {
            return Ok(code);
        }
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_of_run() {
        let words = |text: &str| {
            text.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let args = words("--release gsm8k_tiny --steps 3 -q");
        let (options, name, rest) = split_run(&args).unwrap();
        assert_eq!(
            (options, name, rest),
            (
                &words("--release")[..],
                "gsm8k_tiny",
                &words("--steps 3 -q")[..]
            )
        );
        let args = words("own_loop -- --seed 1");
        let (options, name, rest) = split_run(&args).unwrap();
        assert_eq!(
            (options.len(), name, rest),
            (0, "own_loop", &words("--seed 1")[..])
        );
        assert!(
            split_run(&words("--release"))
                .unwrap_err()
                .to_string()
                .contains("gsm8k_tiny")
        );
    }
}
