// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kit tested against itself: pods without any redirection, pods behind real iptables, and
//! real proxies in them.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic_in_result_fn,
    clippy::indexing_slicing,
    clippy::unreachable,
    clippy::print_stderr,
    reason = "a panic is how a test fails, and standard error is where it talks"
)]

mod dials;
mod load;
mod nodes;
mod oracle;
mod pods;
mod proxies;

use std::{
    net::{IpAddr, SocketAddr},
    process::ExitCode,
};

use anyhow::Result;
use libtest_mimic::Trial;
use redirect_testkit::{
    Envoy, Haproxy, Identity, Pod, Serve, Worker,
    iptables::Backend,
    missing_or_fail,
    node::Node,
    probe, skip_or_fail,
    trials::{self, trial},
};

type Tested = Result<()>;
type Test = fn() -> Tested;

const FAR_V4: &str = "36.152.44.96";
const FAR_V6: &str = "2001:db8::9";

fn main() -> ExitCode {
    probe::intercept();
    trials::run(trials())
}

fn trials() -> Result<Vec<Trial>> {
    let programs: Vec<_> = [Backend::Legacy, Backend::Nft]
        .iter()
        .flat_map(|backend| backend.programs())
        .collect();
    let all = missing_or_fail(&programs)?;
    let envoy = Envoy::binary().err().map(|error| format!("{error:#}"));
    let envoy = skip_or_fail(all.clone().or(envoy))?;
    let node = envoy.clone().or(skip_or_fail(Node::missing())?);
    let haproxy = all.clone().or(missing_or_fail(&[Haproxy::PROGRAM])?);

    let mut trials = Vec::new();
    for (reason, tests) in [
        (all, EVERYWHERE),
        (envoy, WITH_ENVOY),
        (haproxy, WITH_HAPROXY),
        (node, WITH_CONTAINERD),
    ] {
        for &(name, test) in tests {
            trials.push(trial(name, reason.as_ref(), test));
        }
    }
    Ok(trials)
}

const WITH_CONTAINERD: &[(&str, Test)] = &[(
    "a_node_makes_pods_and_leaves_nothing",
    nodes::a_node_makes_pods_and_leaves_nothing,
)];

const EVERYWHERE: &[(&str, Test)] = &[
    (
        "whoever_serves_at_an_address_answers_there",
        dials::whoever_serves_at_an_address_answers_there,
    ),
    (
        "ipv6_and_mapped_dials_reach_their_servers",
        dials::ipv6_and_mapped_dials_reach_their_servers,
    ),
    ("every_mode_connects", dials::every_mode_connects),
    (
        "a_closed_port_is_refused_and_a_dead_address_times_out",
        dials::a_closed_port_is_refused_and_a_dead_address_times_out,
    ),
    (
        "a_socket_dials_again_after_af_unspec",
        dials::a_socket_dials_again_after_af_unspec,
    ),
    (
        "http_is_answered_with_the_servers_name",
        dials::http_is_answered_with_the_servers_name,
    ),
    (
        "a_worker_is_who_it_should_be",
        pods::a_worker_is_who_it_should_be,
    ),
    (
        "programs_run_with_the_workers_identity",
        pods::programs_run_with_the_workers_identity,
    ),
    ("nothing_is_left_behind", pods::nothing_is_left_behind),
    (
        "a_killed_test_leaves_nothing_behind",
        pods::a_killed_test_leaves_nothing_behind,
    ),
    (
        "fifty_thousand_connections_take_seconds",
        load::fifty_thousand_connections_take_seconds,
    ),
    (
        "held_connections_are_counted",
        load::held_connections_are_counted,
    ),
    ("legacy_iptables_redirect_as_istio_says", || {
        oracle::istio_redirects(Backend::Legacy)
    }),
    ("nft_iptables_redirect_as_istio_says", || {
        oracle::istio_redirects(Backend::Nft)
    }),
];

const WITH_ENVOY: &[(&str, Test)] = &[
    (
        "envoy_passes_everything_under_allow_any",
        proxies::envoy_passes_everything_under_allow_any,
    ),
    (
        "envoy_passes_only_the_registered_service",
        proxies::envoy_passes_only_the_registered_service,
    ),
    (
        "envoy_serves_both_families",
        proxies::envoy_serves_both_families,
    ),
];

const WITH_HAPROXY: &[(&str, Test)] = &[
    (
        "haproxy_passes_ipv4_and_turns_ipv6_away",
        proxies::haproxy_passes_ipv4_and_turns_ipv6_away,
    ),
    (
        "haproxy_passes_only_the_registered_service",
        proxies::haproxy_passes_only_the_registered_service,
    ),
];

fn at(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse::<IpAddr>().unwrap(), port)
}

/// A pod, its application, and a server called `far` in the world at both far addresses.
fn pod_and_far(name: &str, port: u16) -> Result<(Pod, Worker, Worker)> {
    let pod = Pod::new(name)?;
    for address in [FAR_V4, FAR_V6] {
        pod.world().add_address(address.parse().unwrap())?;
    }
    let far = pod.world().worker(&Identity::root())?;
    far.serve(&Serve::new("far4", at("0.0.0.0", port)))?;
    far.serve(&Serve::new("far6", at("::", port)))?;
    let app = pod.worker(&Identity::app())?;
    Ok((pod, app, far))
}
