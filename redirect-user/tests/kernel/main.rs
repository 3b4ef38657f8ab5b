//! The programs in the kernel, tested with real sockets against real servers.
//!
//! Every test makes its own pod and its own state directory on bpffs, and leaves neither behind. A test checks which
//! server answered, the original destination that the server saw, the addresses that both ends see, and the rule
//! whose counter moved. Many tests make the same connection in two pods, one behind real iptables: see
//! [`differential`].
#![expect(
    clippy::expect_used,
    clippy::panic_in_result_fn,
    clippy::print_stderr,
    clippy::use_debug,
    reason = "a test fails by a panic, and prints to standard error"
)]

mod budget;
mod destination;
mod differential;
mod dns;
mod flood;
mod flows;
mod follow;
mod harness;
mod inbound;
mod ipv6;
mod oldest;
mod owner;
mod paths;
mod policies;
mod ports;
mod proxies;
mod resolvers;
mod rules;
mod scale;
mod shadow;
mod sharing;
mod sockets;
mod stand_ins;
mod two_policies;
mod update;
mod upgrade;
mod user_namespace;

use std::process::ExitCode;

use redirect_testkit::{
    Envoy, Haproxy, helper, iptables::Backend, missing_or_fail, no_io_uring, no_multipath, runner,
    skip_or_fail,
};

/// The result of a test, which may panic as well.
type Tested = anyhow::Result<()>;
/// The tests of one module that need the same.
type Cases = runner::Cases<Needs>;

/// The needs of a test besides root.
#[derive(Debug, Clone, Copy)]
enum Needs {
    /// Pods with the programs attached.
    Pods,
    /// Pods, one of them behind real iptables.
    Iptables,
    /// Pods with user namespaces of their own, one of them behind real iptables.
    UserNamespaces,
    /// Pods with Envoy as sidecar.
    Envoy,
    /// Pods with haproxy as sidecar.
    Haproxy,
    /// Multipath TCP, and real iptables.
    Multipath,
    /// `io_uring`, and real iptables.
    IoUring,
}

const MODULES: &[&[Cases]] = &[
    rules::CASES,
    differential::CASES,
    flows::CASES,
    dns::CASES,
    owner::CASES,
    resolvers::CASES,
    shadow::CASES,
    user_namespace::CASES,
    sockets::CASES,
    paths::CASES,
    stand_ins::CASES,
    ports::CASES,
    destination::CASES,
    ipv6::CASES,
    follow::CASES,
    flood::CASES,
    inbound::CASES,
    two_policies::CASES,
    sharing::CASES,
    policies::CASES,
    proxies::CASES,
    update::CASES,
    upgrade::CASES,
    scale::CASES,
    budget::CASES,
    oldest::CASES,
];

fn main() -> ExitCode {
    helper::intercept();
    if let Some(code) = flows::intercept() {
        return code;
    }
    if let Some(code) = budget::intercept() {
        return code;
    }
    runner::run(runner::trials(MODULES.concat(), missing))
}

/// The reason to skip tests with these needs, if there is one.
fn missing(needs: Needs) -> anyhow::Result<Option<String>> {
    let iptables = || missing_or_fail(&Backend::Legacy.programs());
    let pods = || missing_or_fail(&["bash", "unshare"]);
    match needs {
        Needs::Pods => pods(),
        Needs::Iptables => iptables(),
        Needs::UserNamespaces => Ok(missing_or_fail(&["nsenter", "setpriv"])?.or(iptables()?)),
        Needs::Envoy => {
            let no_envoy = || Envoy::binary().err().map(|error| format!("{error:#}"));
            skip_or_fail(pods()?.or_else(no_envoy))
        }
        Needs::Haproxy => missing_or_fail(&[Haproxy::PROGRAM]),
        Needs::Multipath => skip_or_fail(iptables()?.or_else(no_multipath)),
        Needs::IoUring => skip_or_fail(iptables()?.or_else(no_io_uring)),
    }
}
