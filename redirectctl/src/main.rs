//! `redirectctl`: see `redirectctl --help`.

use std::{
    io::{IsTerminal as _, stderr, stdout},
    process::ExitCode,
};

use redirect_user::{
    config::{Environment, NameFile},
    console::Env,
};
use redirectctl::cli;

fn main() -> ExitCode {
    let mut env = Env {
        arguments: std::env::args_os().collect(),
        variables: Environment::from_os(std::env::vars_os()),
        users: NameFile::users(),
        groups: NameFile::groups(),
        terminal: stdout().is_terminal(),
        stdout: Box::new(stdout()),
        stderr: Box::new(stderr()),
    };
    cli::run(&mut env)
}
