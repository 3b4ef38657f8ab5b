// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests of the kit itself: pods without redirection, pods behind real iptables, and real proxies in pods.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic_in_result_fn,
    clippy::indexing_slicing,
    clippy::unreachable,
    clippy::print_stderr,
    reason = "a test fails by a panic, and prints to standard error"
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
use redirect_testkit::{
    Envoy, Haproxy, Identity, Pod, Serve, Worker, cases, helper,
    iptables::Backend,
    missing_or_fail,
    node::Node,
    runner::{self, Cases},
    skip_or_fail,
};

type Tested = Result<()>;

/// The needs of a test.
#[derive(Debug, Clone, Copy)]
enum Needs {
    /// Root, and iptables of both backends.
    Iptables,
    /// The same, and Envoy.
    Envoy,
    /// The same, and haproxy.
    Haproxy,
    /// The same with Envoy, and a container runtime.
    Containerd,
}

const CASES: &[Cases<Needs>] = cases! {
    Needs::Iptables => [
        dials::the_server_at_an_address_answers_there,
        dials::ipv6_and_mapped_dials_reach_their_servers,
        dials::every_mode_connects,
        dials::a_closed_port_is_refused_and_a_dead_address_times_out,
        dials::a_socket_dials_again_after_af_unspec,
        dials::http_is_answered_with_the_servers_name,
        pods::a_worker_has_its_identity,
        pods::programs_run_with_the_workers_identity,
        pods::nothing_is_left_behind,
        pods::a_killed_test_leaves_nothing_behind,
        load::fifty_thousand_connections_take_seconds,
        load::open_connections_are_counted,
        oracle::legacy_iptables_redirect_as_istio_says,
        oracle::nft_iptables_redirect_as_istio_says,
    ],
    Needs::Envoy => [
        proxies::envoy_passes_everything_under_allow_any,
        proxies::envoy_passes_only_the_registered_service,
        proxies::envoy_serves_both_families,
    ],
    Needs::Haproxy => [
        proxies::haproxy_passes_ipv4_and_turns_ipv6_away,
        proxies::haproxy_passes_only_the_registered_service,
    ],
    Needs::Containerd => [nodes::a_node_makes_pods_and_leaves_nothing],
};

const FAR_V4: &str = "36.152.44.96";
const FAR_V6: &str = "2001:db8::9";

fn main() -> ExitCode {
    helper::intercept();
    runner::run(runner::trials(CASES.to_vec(), missing))
}

/// The reason to skip tests with these needs, if there is one.
fn missing(needs: Needs) -> Result<Option<String>> {
    let iptables = missing_or_fail(&[Backend::Legacy.programs(), Backend::Nft.programs()].concat());
    let envoy = || Envoy::binary().err().map(|error| format!("{error:#}"));
    match needs {
        Needs::Iptables => iptables,
        Needs::Envoy => skip_or_fail(iptables?.or_else(envoy)),
        Needs::Haproxy => Ok(iptables?.or(missing_or_fail(&[Haproxy::PROGRAM])?)),
        Needs::Containerd => skip_or_fail(iptables?.or_else(envoy).or_else(Node::missing)),
    }
}

fn at(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse::<IpAddr>().unwrap(), port)
}

/// Makes a pod, a worker of its application, and servers in the world at both far addresses.
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
