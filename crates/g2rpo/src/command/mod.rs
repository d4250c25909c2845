//! What the command does, a file for each kind of work.

mod cli;
mod console;
mod data;
mod evaluation;
mod failure;
mod init;
mod plan;
mod run;
mod setup;
mod stop;
mod tools;
mod train;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use cli::{Cli, Command};

/// Reads the command line and does what it says.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match &cli.command {
        Command::Train(args) => train::train(args),
        Command::Resume(args) => train::resume(args),
        Command::Eval(args) => evaluation::eval(args),
        Command::Compare(args) => evaluation::compare_runs(args),
        Command::Generate(args) => tools::generate(args),
        Command::Verify(args) => tools::verify(args),
        Command::Report(args) => tools::report(args),
        Command::Init(args) => init::init(args),
        Command::Completions { shell } => {
            clap_complete::generate(*shell, &mut Cli::command(), "g2rpo", &mut std::io::stdout());
            Ok(())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(),
    }
}
