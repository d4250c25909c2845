//! The command `g2rpo`: trains, resumes, evaluates, compares, reports.

mod command;

use std::process::ExitCode;

fn main() -> ExitCode {
    // Code runs in a process that a helper confines. With this line the program is its own helper.
    g2rpo::verify::code::main_if_requested();
    command::main()
}
