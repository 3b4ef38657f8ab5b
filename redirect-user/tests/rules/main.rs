//! The rules that `redirectctl rules` renders: equal to Istio's own texts, taken by real iptables,
//! and to the same effect. And rules that are read: what is rendered and what real iptables print
//! of it become the same options again, and a packet's walk through a text ends where real
//! connections do.
#![expect(
    clippy::expect_used,
    clippy::panic_in_result_fn,
    clippy::print_stderr,
    reason = "a panic is how a test fails, and standard error is where it talks"
)]

mod configs;
mod golden;
mod import;
mod kernel;
mod parity;
mod walk;

use std::process::ExitCode;

use anyhow::Result;
use libtest_mimic::{Arguments, Failed, Trial};
use redirect_testkit::{iptables::Backend, missing_or_fail, probe};

type Tested = Result<()>;
/// A test's name, which is a sentence, and the test.
type Test = (&'static str, fn() -> Tested);

fn main() -> ExitCode {
    probe::intercept();
    match trials() {
        Ok(trials) => libtest_mimic::run(&Arguments::from_args(), trials).exit_code(),
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn trials() -> Result<Vec<Trial>> {
    let programs = [Backend::Legacy.programs(), Backend::Nft.programs()].concat();
    let kernel = missing_or_fail(&programs)?;
    let golden = golden::folder().err();
    let golden = || golden.clone();
    let kernel = || kernel.clone();
    let mut trials = Vec::new();
    for (module, reason, tests) in [
        ("golden", golden(), golden::TESTS),
        ("golden", None, golden::ALWAYS),
        ("import", golden(), import::OF_GOLDEN),
        ("import", None, import::ALWAYS),
        ("import", kernel(), import::OF_KERNEL),
        ("kernel", kernel(), kernel::TESTS),
        ("parity", None, parity::TESTS),
        ("walk", kernel(), walk::TESTS),
    ] {
        for &(name, test) in tests {
            let name = format!("{module}::{name}");
            if let Some(reason) = &reason {
                eprintln!("{name} is skipped: {reason}");
            }
            let told = move || test().map_err(|error| Failed::from(format!("{error:#}")));
            trials.push(Trial::test(name, told).with_ignored_flag(reason.is_some()));
        }
    }
    Ok(trials)
}
