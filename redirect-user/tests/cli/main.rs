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
mod uninstall;
mod unnamed;
mod unprivileged;
mod user_namespace;
mod warnings;

use std::process::ExitCode;

use anyhow::Result;
use libtest_mimic::{Arguments, Failed, Trial};
use redirect_testkit::{missing_or_fail, probe, tests_at_once};

type Tested = Result<()>;

/// A test's name, what it needs, and the test.
type Case = (&'static str, Needs, fn() -> Tested);

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

const MODULES: &[&[Case]] = &[
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
    uninstall::CASES,
    unnamed::CASES,
    unprivileged::CASES,
    user_namespace::CASES,
    warnings::CASES,
];

fn main() -> ExitCode {
    probe::intercept();
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert_with(tests_at_once);
    let trials: Result<Vec<_>> = MODULES.iter().copied().flatten().map(trial).collect();
    match trials {
        Ok(trials) => libtest_mimic::run(&arguments, trials).exit_code(),
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn trial((name, needs, test): &Case) -> Result<Trial> {
    let reason = match needs {
        Needs::Nothing => None,
        Needs::Pods => missing_or_fail(&[])?,
        Needs::PodsAnd(programs) => missing_or_fail(programs)?,
    };
    if let Some(reason) = &reason {
        eprintln!("{name} is skipped: {reason}");
    }
    let test = *test;
    let told = move || test().map_err(|error| Failed::from(format!("{error:#}")));
    Ok(Trial::test(*name, told).with_ignored_flag(reason.is_some()))
}
