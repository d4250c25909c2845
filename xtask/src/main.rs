//! Chores of this repository: `cargo xtask help`.
#![forbid(unsafe_code)]

mod chores;
mod circles;
mod deps;
mod error;
mod install;
mod pins;
mod pip;
mod probe;
mod repo;
mod setup;

use error::{Error, Result};
use pins::Flavor;
use setup::Wish;
use std::process::ExitCode;

const HELP: &str = "\
Chores of this repository.

  cargo xtask run [CARGO OPTIONS] EXAMPLE [ARGUMENTS]   build and run an example
  cargo xtask test [ARGUMENTS]       the test suite; arguments as for `cargo test`
  cargo xtask setup [--cpu | --cuda] install libtorch, without building anything
  cargo xtask bench [ARGUMENTS]      the benches; arguments as for `cargo bench`
  cargo xtask lint                   rustfmt and clippy, as CI runs them
  cargo xtask doc                    the documentation, as CI builds it
  cargo xtask check-deps             who may depend on what
  cargo xtask check-files            no circles among files, and each says what it is

All but the last two install libtorch first, if the checkout has none and neither LIBTORCH
nor LIBTORCH_USE_PYTORCH is set.";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&args) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(args: &[String]) -> Result<u8> {
    let (command, rest) = match args {
        [] => ("help", args),
        [command, rest @ ..] => (command.as_str(), rest),
    };
    let none = |code: fn() -> Result<u8>| match rest.first() {
        None => code(),
        Some(extra) => Err(Error::new(format!(
            "`cargo xtask {command}` takes no argument, but got {extra:?}"
        ))),
    };
    match command {
        "run" => chores::run(rest),
        "test" => chores::with_libtorch(&["test"], rest),
        "bench" => chores::with_libtorch(&["bench", "--package", "g2rpo-benches"], rest),
        "setup" => setup::ensure(wish(rest)?).map(|()| 0),
        "lint" => none(chores::lint),
        "doc" => none(chores::doc),
        "check-deps" => none(deps::check),
        "check-files" => none(circles::check),
        "help" | "--help" | "-h" => {
            println!("{HELP}");
            Ok(0)
        }
        other => Err(Error::new(format!(
            "there is no chore {other:?}; `cargo xtask help` lists them"
        ))),
    }
}

fn wish(args: &[String]) -> Result<Wish> {
    match args {
        [] => Ok(Wish::Detect),
        [one] if one == "--cpu" => Ok(Wish::Only(Flavor::Cpu)),
        [one] if one == "--cuda" => Ok(Wish::Only(Flavor::Cuda)),
        _ => Err(Error::new(format!(
            "`cargo xtask setup` takes --cpu, --cuda or nothing, but got {:?}",
            args.join(" ")
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(wish(&[]).unwrap(), Wish::Detect);
        assert_eq!(wish(&words("--cuda")).unwrap(), Wish::Only(Flavor::Cuda));
        assert_eq!(wish(&words("--cpu")).unwrap(), Wish::Only(Flavor::Cpu));
        assert!(wish(&words("--cpu --cuda")).is_err());
        for (text, expected) in [("lint fast", "takes no argument"), ("dance", "no chore")] {
            let message = dispatch(&words(text)).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
}
