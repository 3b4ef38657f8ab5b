//! What the commands do: input, output, exit codes, and what they leave behind.
//!
//! Every test runs the real `redirectctl` on a pod made by hand, with all state in a folder of its
//! own on the BPF file system ([`ctl::Ctl`]), and asks real connections who answered
//! ([`scene::Scene`]).
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::panic_in_result_fn,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a panic is how a test fails, and standard error is where it talks"
)]

mod bad_input;
mod cidr;
mod crash;
mod ctl;
mod exec;
mod finished;
mod follow;
mod foreign;
mod help;
mod inbound;
mod init_args;
mod loader_gone;
mod output;
mod parity;
mod rules;
mod scene;
mod terminal;
mod uninstall;
mod unnamed;
mod unprivileged;
mod update;
mod user_namespace;
mod warnings;

use std::process::ExitCode;

use anyhow::Result;
use redirect_testkit::{helper, missing_or_fail, runner};

type Tested = Result<()>;

/// The tests of one module that need the same.
type Cases = runner::Cases<Needs>;

/// What a test needs of the machine.
#[derive(Debug, Clone, Copy)]
enum Needs {
    /// Nothing.
    Nothing,
    /// Root, cgroups, network namespaces and BPF.
    Pods,
    /// All that, and these programs.
    PodsAnd(&'static [&'static str]),
}

const MODULES: &[&[Cases]] = &[
    bad_input::CASES,
    cidr::CASES,
    crash::CASES,
    exec::CASES,
    finished::CASES,
    follow::CASES,
    inbound::CASES,
    foreign::CASES,
    help::CASES,
    init_args::CASES,
    loader_gone::CASES,
    output::CASES,
    parity::CASES,
    rules::CASES,
    terminal::CASES,
    uninstall::CASES,
    unnamed::CASES,
    unprivileged::CASES,
    update::CASES,
    user_namespace::CASES,
    warnings::CASES,
];

fn main() -> ExitCode {
    helper::intercept();
    let cases = MODULES.concat().into_iter().map(Cases::without_module);
    runner::run(runner::trials(cases, missing))
}

/// The reason to skip tests with these needs, if there is one.
fn missing(needs: Needs) -> Result<Option<String>> {
    match needs {
        Needs::Nothing => Ok(None),
        Needs::Pods => missing_or_fail(&[]),
        Needs::PodsAnd(programs) => missing_or_fail(programs),
    }
}
