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
use redirect_testkit::{MemoryLimit, helper, missing_or_fail, runner, skip_or_fail};

type Tested = Result<()>;
/// The tests of one module that need the same.
type Cases = runner::Cases<Needs>;

/// The needs of a test.
#[derive(Debug, Clone, Copy)]
enum Needs {
    /// Root, cgroups, network namespaces, BPF and `setpriv`.
    Pods,
    /// All that, and a container runtime.
    Containers,
    /// All that, and a cgroup that limits memory.
    MemoryLimit,
    /// All that, and a clock that can be set.
    Clock,
}

const MODULES: &[&[Cases]] = &[
    files::CASES,
    kube::CASES,
    load::CASES,
    lifecycle::CASES,
    upgrade::CASES,
    scrape::CASES,
    cni::CASES,
    command::CASES,
    fleet::CASES,
    faults::CASES,
    interruptions::CASES,
    deployed::CASES,
    containers::CASES,
];

/// Tests that take minutes. `cargo xtask soak` asks for them by what their names begin with.
const SOAKS: &[&[Cases]] = &[
    apiserver::SOAKS,
    containers::SOAKS,
    fleet::SOAKS,
    kubelet::SOAKS,
    load::SOAKS,
];

fn main() -> ExitCode {
    helper::intercept();
    runner::run(trials())
}

fn trials() -> Result<Vec<runner::Trial>> {
    let mut trials = runner::trials(MODULES.concat(), missing)?;
    let soaks = runner::trials(SOAKS.concat(), missing)?.into_iter();
    trials.extend(soaks.map(|trial| trial.with_ignored_flag(true)));
    Ok(trials)
}

/// The reason to skip tests with these needs, if there is one.
fn missing(needs: Needs) -> Result<Option<String>> {
    let pods = missing_or_fail(&["setpriv"])?;
    skip_or_fail(match needs {
        Needs::Pods => pods,
        Needs::Containers => pods.or_else(containers::missing),
        Needs::MemoryLimit => pods.or_else(MemoryLimit::missing),
        Needs::Clock => pods.or_else(interruptions::missing_clock),
    })
}
