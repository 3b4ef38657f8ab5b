//! `cargo xtask`: the commands that developers and CI machines run in this workspace, with the set-up.
//!
//! This file only parses and dispatches. There is one file for each subcommand, and one file in `setup/` for each thing
//! that can be missing. The package uses no other package of the workspace, so that it compiles on a machine that
//! cannot build them yet.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a developer's tool: it runs other programs, reads the environment and prints its steps"
)]

mod bench;
mod build;
mod cache;
mod command;
mod demo;
mod docs;
mod image;
mod kernels;
mod lint;
mod parity;
mod setup;
mod soak;
mod spinner;
mod steps;
mod suites;
mod test;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Set-up, build, demo, test, lint, docs and bench of this workspace.
#[derive(Debug, Parser)]
#[command(
    bin_name = "cargo xtask",
    after_help = "\
A subcommand first installs the programs that it needs and does not find.
`cargo xtask setup` does only that.

Examples:
  cargo xtask setup                    make this machine ready to build
  cargo xtask demo                     show redirection on a test pod (root)
  cargo xtask test --filter excluded   run tests with \"excluded\" in their name
  cargo xtask lint                     run all checks besides the tests"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Setup(setup::Args),
    Build(build::Args),
    Demo(demo::Args),
    Test(test::Args),
    Lint(lint::Args),
    Docs(docs::Args),
    Image(image::Args),
    Bench(bench::Args),
    Parity(parity::Args),
    Soak(soak::Args),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Setup(args) => setup::run(&args),
        Command::Build(args) => build::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Lint(args) => lint::run(&args),
        Command::Docs(args) => docs::run(&args),
        Command::Image(args) => image::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Parity(args) => parity::run(&args),
        Command::Soak(args) => soak::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("error: {err:#}");
            ExitCode::FAILURE
        }
    }
}
