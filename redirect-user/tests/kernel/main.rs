//! What the programs do to real sockets, against real servers.
//!
//! Every test makes its own pod and its own owner folder, and leaves neither behind. A test says
//! who answered, which original destination they were told, what both ends take each other for,
//! and which rule's counter moved.
#![expect(
    clippy::expect_used,
    clippy::panic_in_result_fn,
    clippy::print_stderr,
    clippy::use_debug,
    reason = "a panic is how a test fails, and standard error is where it talks"
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
mod owner;
mod paths;
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

use libtest_mimic::Trial;
use redirect_testkit::{
    Envoy, Haproxy,
    iptables::Backend,
    missing_or_fail, no_io_uring, no_multipath, probe, skip_or_fail,
    trials::{self, trial},
};

/// What a test gives back; it may panic as well.
type Tested = anyhow::Result<()>;
/// A test's name, which is a sentence, and the test.
type Test = (&'static str, fn() -> Tested);

fn main() -> ExitCode {
    probe::intercept();
    if let Some(code) = flows::intercept() {
        return code;
    }
    trials::run(trials())
}

/// The table of contents: each module's tests, and what they need besides root.
fn trials() -> anyhow::Result<Vec<Trial>> {
    let everywhere = missing_or_fail(&["bash", "unshare"])?;
    let iptables = missing_or_fail(&Backend::Legacy.programs())?;
    let user_namespaces = missing_or_fail(&["nsenter", "setpriv"])?.or_else(|| iptables.clone());
    let no_envoy = Envoy::binary().err().map(|error| format!("{error:#}"));
    let envoy = skip_or_fail(everywhere.clone().or(no_envoy))?;
    let haproxy = missing_or_fail(&[Haproxy::PROGRAM])?;
    let multipath = skip_or_fail(iptables.clone().or_else(no_multipath))?;
    let io_uring = skip_or_fail(iptables.clone().or_else(no_io_uring))?;
    let mut trials = Vec::new();
    for (module, reason, tests) in [
        ("rules", &everywhere, rules::TESTS),
        ("differential", &iptables, differential::TESTS),
        ("flows", &iptables, flows::TESTS),
        ("dns", &iptables, dns::TESTS),
        ("owner", &iptables, owner::TESTS),
        ("resolvers", &everywhere, resolvers::TESTS),
        ("shadow", &iptables, shadow::TESTS),
        ("user_namespace", &user_namespaces, user_namespace::TESTS),
        ("sockets", &everywhere, sockets::TESTS),
        ("paths", &iptables, paths::TESTS),
        ("paths", &multipath, paths::WITH_MULTIPATH),
        ("paths", &io_uring, paths::WITH_IO_URING),
        ("stand_ins", &everywhere, stand_ins::TESTS),
        ("stand_ins", &iptables, stand_ins::TWINS),
        ("ports", &everywhere, ports::TESTS),
        ("destination", &everywhere, destination::TESTS),
        ("ipv6", &iptables, ipv6::TESTS),
        ("follow", &iptables, follow::TESTS),
        ("flood", &everywhere, flood::TESTS),
        ("inbound", &everywhere, inbound::TESTS),
        ("inbound", &iptables, inbound::TWINS),
        ("two_policies", &everywhere, two_policies::TESTS),
        ("sharing", &everywhere, sharing::TESTS),
        ("proxies", &envoy, proxies::WITH_ENVOY),
        ("proxies", &haproxy, proxies::WITH_HAPROXY),
        ("update", &everywhere, update::TESTS),
        ("upgrade", &everywhere, upgrade::TESTS),
        ("scale", &everywhere, scale::TESTS),
        ("budget", &everywhere, budget::TESTS),
    ] {
        for &(name, test) in tests {
            let name = format!("{module}::{name}");
            trials.push(trial(name, reason.as_ref(), test));
        }
    }
    Ok(trials)
}
