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
    let rest = match &args[at + 1..] {
        [dashes, rest @ ..] if dashes == "--" => rest,
        rest => rest,
    };
    Ok((&args[..at], &args[at], rest))
}

/// `cargo test` or `cargo bench …` with a libtorch: everything, or what the arguments select.
pub(crate) fn with_libtorch(words: &[&str], args: &[String]) -> Result<u8> {
    setup::ensure(Wish::Any)?;
    let mut command = cargo(words);
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
    let features = "g2rpo/yaml,g2rpo/parquet,g2rpo/remote";
    let mut clippy = cargo(["clippy", "--workspace", "--all-targets", "--features"]);
    clippy.args([features, "--", "-D", "warnings"]);
    repo::run(clippy)
}

/// The crates over libtorch as docs.rs builds them, which has none, with the features of their `[package.metadata.docs.rs]`.
const DOCS_RS: [&str; 2] = [
    "-p g2rpo-libtorch --features doc-only",
    "-p g2rpo --no-default-features --features doc-only,remote",
];

/// The documentation of our crates, warnings being errors.
pub(crate) fn doc() -> Result<u8> {
    setup::ensure(Wish::Any)?;
    let one = |args: &str| {
        let mut command = cargo(["doc", "--no-deps"]);
        let args = args.split(' ');
        command.args(args).env("RUSTDOCFLAGS", "-D warnings");
        command
    };
    let mut code = repo::run(one("--workspace"))?;
    for args in DOCS_RS {
        if code == 0 {
            let mut command = one(args);
            command.env("LIBTORCH", "absent");
            code = repo::run(command)?;
        }
    }
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_of_run() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let args = words("--release gsm8k_tiny --steps 3 -q");
        let expected = (&args[..1], "gsm8k_tiny", &args[2..]);
        assert_eq!(split_run(&args).unwrap(), expected);
        let args = words("own_loop -- --seed 1");
        let expected = (&args[..0], "own_loop", &args[2..]);
        assert_eq!(split_run(&args).unwrap(), expected);
        let error = split_run(&words("--release")).unwrap_err().to_string();
        assert!(error.contains("gsm8k_tiny"), "{error}");
    }
}
