//! The rules that `redirectctl rules` renders: equal to Istio's own texts, taken by real iptables,
//! and to the same effect. And rules that are read: what is rendered and what real iptables print
//! of it become the same options again, and a packet's walk through a text ends where real
//! connections do.
#![expect(
    clippy::expect_used,
    clippy::panic_in_result_fn,
    reason = "a panic is how a test fails"
)]

mod configs;
mod golden;
mod import;
mod kernel;
mod parity;
mod walk;

use std::process::ExitCode;

use anyhow::Result;
use libtest_mimic::Trial;
use redirect_testkit::{
    iptables::Backend,
    missing_or_fail, probe,
    trials::{self, trial},
};

type Tested = Result<()>;
/// A test's name, which is a sentence, and the test.
type Test = (&'static str, fn() -> Tested);

fn main() -> ExitCode {
    probe::intercept();
    trials::run(trials())
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
            trials.push(trial(name, reason.as_ref(), test));
        }
    }
    Ok(trials)
}
