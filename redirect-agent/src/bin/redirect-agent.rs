//! The program `redirect-agent`: see `redirect-agent --help`.

use std::process::ExitCode;

use redirect_agent::cli;
use redirect_user::{config::Environment, console::Env};

fn main() -> ExitCode {
    // Options are read from the descriptions of workloads only.
    let variables = std::env::vars_os().filter(|(name, _)| name == "NODE_NAME");
    cli::run(&mut Env::of_process(Environment::from_os(variables)))
}
