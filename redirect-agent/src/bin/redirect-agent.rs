//! The program `redirect-agent`: see `redirect-agent --help`.

use std::{
    io::{IsTerminal as _, stderr, stdout},
    process::ExitCode,
};

use redirect_agent::cli;
use redirect_user::{
    config::{Environment, NameFile},
    console::Env,
};

fn main() -> ExitCode {
    let mut env = Env {
        arguments: std::env::args_os().collect(),
        // Options are read from the descriptions of workloads only.
        variables: Environment::from_os(
            std::env::vars_os().filter(|(name, _)| name == "NODE_NAME"),
        ),
        users: NameFile::users(),
        groups: NameFile::groups(),
        terminal: stdout().is_terminal(),
        stdout: Box::new(stdout()),
        stderr: Box::new(stderr()),
    };
    cli::run(&mut env)
}
