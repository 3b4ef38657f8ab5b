//! `redirectctl`: see `redirectctl --help`.

use std::process::ExitCode;

use redirect_user::{config::Environment, console::Env};
use redirectctl::cli;

fn main() -> ExitCode {
    cli::run(&mut Env::of_process(Environment::from_os(
        std::env::vars_os(),
    )))
}
