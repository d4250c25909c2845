//! What the command does, a file for each kind of work.

mod best;
mod cli;
mod console;
mod data;
mod engine;
mod evaluation;
mod failure;
mod generate;
mod init;
mod lines;
mod memory;
mod model_folder;
mod plan;
mod ranks;
mod report;
mod run;
mod sampling;
#[cfg(feature = "remote")]
mod server;
mod setup;
mod stop;
mod train;
mod verify;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use tracing_subscriber::EnvFilter;

use cli::{Cli, Command};
use failure::{Failure, because};
use lines::To;

/// Reads the command line and does what it says.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = trace().and_then(|()| work(&cli.command));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(),
    }
}

/// Tells on standard error what `RUST_LOG` asks for, such as `g2rpo=debug`; without it warnings alone, which are told
/// like those of the command.
fn trace() -> Result<(), Failure> {
    let wanted = std::env::var_os(EnvFilter::DEFAULT_ENV);
    let words = (wanted.as_ref()).map_or("warn".into(), |w| w.to_string_lossy());
    let filter = EnvFilter::try_new(words).map_err(because(Failure::SETTINGS, "RUST_LOG"))?;
    let tell = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // It would be told to a standard error that nobody reads, which panics.
        .log_internal_errors(false);
    match wanted {
        Some(_) => tell.init(),
        None => (tell.without_time().with_target(false).with_level(false)).init(),
    }
    Ok(())
}

fn work(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Train(args) => train::train(args),
        Command::Resume(args) => train::resume(args),
        Command::Eval(args) => evaluation::eval(args),
        Command::Compare(args) => evaluation::compare_runs(args),
        Command::Generate(args) => generate::generate(args),
        Command::Verify(args) => verify::verify(args),
        Command::Report(args) => report::report(args),
        Command::Init(args) => init::init(args),
        Command::Completions { shell } => {
            // Written whole, as the generator panics where nobody reads on.
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "g2rpo", &mut script);
            To::Output.write(String::from_utf8_lossy(&script).trim_end());
            Ok(())
        }
    }
}
