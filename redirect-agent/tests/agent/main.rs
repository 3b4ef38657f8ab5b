//! What the agent does to real sockets, while its files change, and while it is killed.
//!
//! Every test runs the real program on pods made by hand, with all state in a folder of its own on
//! the BPF file system ([`node::Node`]), and asks real connections who answered ([`scene::Scene`]):
//! with the programs detached that is another one.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a panic is how a test fails, and standard error is where it talks"
)]

mod asked;
mod cni;
mod command;
mod containers;
mod crowd;
mod deployed;
mod disturbed;
mod faults;
mod files;
mod kube;
mod life;
mod load;
mod node;
mod runtime;
mod scene;
mod upgrade;

use std::process::ExitCode;

use anyhow::Result;
use libtest_mimic::{Arguments, Failed, Trial};
use redirect_testkit::{Limited, missing_or_fail, probe, skip_or_fail};

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
    let reason = missing_or_fail(&["setpriv"])?;
    let modules = [
        ("files", files::TESTS),
        ("kube", kube::TESTS),
        ("load", load::TESTS),
        ("life", life::TESTS),
        ("upgrade", upgrade::TESTS),
        ("asked", asked::TESTS),
        ("cni", cni::TESTS),
        ("command", command::TESTS),
        ("crowd", crowd::TESTS),
        ("faults", faults::TESTS),
        ("disturbed", disturbed::TESTS),
        ("deployed", deployed::TESTS),
    ];
    let or = |missing: Option<String>| skip_or_fail(reason.clone().or(missing));
    let with_containers = or(containers::missing())?;
    let demanding = [
        ("containers", containers::TESTS, &with_containers),
        ("faults", faults::OF_MEMORY, &or(Limited::missing())?),
        (
            "disturbed",
            disturbed::OF_CLOCK,
            &or(disturbed::no_clock())?,
        ),
    ];
    let mut trials = Vec::new();
    for (module, tests) in modules {
        trials.extend(told(module, tests, reason.as_ref()));
    }
    for (module, tests, reason) in demanding {
        trials.extend(told(module, tests, reason.as_ref()));
    }
    // `cargo xtask soak` asks for them by what their names begin with.
    let long = [
        ("containers", containers::SOAKS, &with_containers),
        ("crowd", crowd::LONG, &reason),
        ("load", load::LONG, &reason),
    ];
    for (module, tests, reason) in long {
        let told = told(module, tests, reason.as_ref());
        trials.extend(told.map(|trial| trial.with_ignored_flag(true)));
    }
    Ok(trials)
}

/// Trials that tell why they are skipped, if they are.
fn told(module: &str, tests: &[Test], reason: Option<&String>) -> impl Iterator<Item = Trial> {
    tests.iter().map(move |&(name, test)| {
        let name = format!("{module}::{name}");
        if let Some(reason) = reason {
            eprintln!("{name} is skipped: {reason}");
        }
        let told = move || test().map_err(|error| Failed::from(format!("{error:#}")));
        Trial::test(name, told).with_ignored_flag(reason.is_some())
    })
}
