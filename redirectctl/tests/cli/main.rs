//! The commands: input, output, exit codes, and the state that they leave behind.
//!
//! Every test runs the real `redirectctl` on a pod made by hand, with a state directory of its own ([`ctl::Ctl`]), and
//! makes real connections to servers that name themselves ([`scene::Scene`]).
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
mod follow;
mod health;
mod help;
mod inbound;
mod inbound_recovery;
mod init_args;
mod lock;
mod no_netns;
mod output;
mod parity;
mod persistence;
mod rules;
mod scene;
mod state_dir;
mod terminal;
mod uninstall;
mod unprivileged;
mod update;
mod user_namespace;
mod warnings;

use std::process::ExitCode;

use anyhow::Result;
use redirect_testkit::{helper, missing_or_fail, runner};

type Tested = Result<()>;

/// The tests of one module with the same needs.
type Cases = runner::Cases<Needs>;

/// The needs of a test.
#[derive(Debug, Clone, Copy)]
enum Needs {
    /// Nothing.
    Nothing,
    /// Root, cgroups, network namespaces and BPF.
    Pods,
    /// The same, and these programs.
    PodsAnd(&'static [&'static str]),
}

const MODULES: &[&[Cases]] = &[
    bad_input::CASES,
    cidr::CASES,
    crash::CASES,
    exec::CASES,
    follow::CASES,
    health::CASES,
    help::CASES,
    inbound::CASES,
    inbound_recovery::CASES,
    init_args::CASES,
    lock::CASES,
    no_netns::CASES,
    output::CASES,
    parity::CASES,
    persistence::CASES,
    rules::CASES,
    state_dir::CASES,
    terminal::CASES,
    uninstall::CASES,
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
