//! The agent and real sockets, while its files change, and while it is killed.
//!
//! Every test runs the real program on pods made by hand, with a state directory of its own on the BPF file
//! system ([`node::Node`]), and asks real connections which server they reached ([`scene::Scene`]): without
//! the programs they reach another one.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a panic is how a test fails, and standard error is where it talks"
)]

mod agent_process;
mod apiserver;
mod cni;
mod command;
mod containers;
mod deployed;
mod faults;
mod files;
mod fleet;
mod interruptions;
mod kube;
mod kubelet;
mod lifecycle;
mod load;
mod node;
mod runtime;
mod scene;
mod scrape;
mod upgrade;

use std::process::ExitCode;

use anyhow::Result;
use libtest_mimic::Trial;
use redirect_testkit::{
    Limited, missing_or_fail, probe, skip_or_fail,
    trials::{self, trial},
};

type Tested = Result<()>;
/// The name of a test, and its function.
type Test = (&'static str, fn() -> Tested);

fn main() -> ExitCode {
    probe::intercept();
    trials::run(trials())
}

fn trials() -> Result<Vec<Trial>> {
    let reason = missing_or_fail(&["setpriv"])?;
    let modules = [
        ("files", files::TESTS),
        ("kube", kube::TESTS),
        ("load", load::TESTS),
        ("lifecycle", lifecycle::TESTS),
        ("upgrade", upgrade::TESTS),
        ("scrape", scrape::TESTS),
        ("cni", cni::TESTS),
        ("command", command::TESTS),
        ("fleet", fleet::TESTS),
        ("faults", faults::TESTS),
        ("interruptions", interruptions::TESTS),
        ("deployed", deployed::TESTS),
    ];
    let or = |missing: Option<String>| skip_or_fail(reason.clone().or(missing));
    let with_containers = or(containers::missing())?;
    let demanding = [
        ("containers", containers::TESTS, &with_containers),
        (
            "faults",
            faults::WITH_MEMORY_LIMIT,
            &or(Limited::missing())?,
        ),
        (
            "interruptions",
            interruptions::WITH_FAKETIME,
            &or(interruptions::missing_clock())?,
        ),
    ];
    let all = |module: &'static str, tests: &'static [Test], reason: Option<&String>| {
        let trial = move |&(name, test): &Test| trial(format!("{module}::{name}"), reason, test);
        tests.iter().map(trial).collect::<Vec<_>>()
    };
    let mut trials = Vec::new();
    for (module, tests) in modules {
        trials.extend(all(module, tests, reason.as_ref()));
    }
    for (module, tests, reason) in demanding {
        trials.extend(all(module, tests, reason.as_ref()));
    }
    // `cargo xtask soak` selects them by the beginning of their names.
    let long = [
        ("apiserver", apiserver::LONG, &reason),
        ("containers", containers::SOAKS, &with_containers),
        ("fleet", fleet::LONG, &reason),
        ("kubelet", kubelet::LONG, &with_containers),
        ("load", load::LONG, &reason),
    ];
    for (module, tests, reason) in long {
        let all = all(module, tests, reason.as_ref()).into_iter();
        trials.extend(all.map(|trial| trial.with_ignored_flag(true)));
    }
    Ok(trials)
}
