//! How many connections a pod can hold at once: as many as it has source ports, for each address
//! of the proxy.

use std::{net::SocketAddr, time::Duration};

use anyhow::ensure;
use redirect_common::abi::PER_DESTINATION;
use redirect_testkit::{Dial, Identity, OpenConnections, Serve, Worker, cases, wait_until};

use crate::{
    Cases, Needs, Tested,
    harness::{ELSEWHERE_V4, ELSEWHERE_V6, OUT_PORT, Redirected, Scene, Server, at, moved},
    sockets::{check, settings},
};

pub(crate) const CASES: &[Cases] = cases! {
    Needs::Pods => [a_wildcard_proxy_holds_more_connections_than_there_are_ports],
};

/// How many source ports the pod has.
const PORTS: u32 = 64;
/// More than there are ports, and so few that chance fills none of a destination's addresses.
const CONNECTIONS: u32 = PORTS * PER_DESTINATION / 2;

/// One proxy after the other, in the same pod, without a word to the redirector.
fn a_wildcard_proxy_holds_more_connections_than_there_are_ports() -> Tested {
    let pod = Redirected::attach("ports", Scene::without_proxy("ports")?, &settings())?;
    let root = pod.scene.pod.worker(&Identity::root())?;
    let v4 = [at(ELSEWHERE_V4, 80), at(ELSEWHERE_V4, 443)];
    let v6 = [at(ELSEWHERE_V6, 80), at(ELSEWHERE_V6, 443)];
    let serve = |name, ip| Serve::new(name, at(ip, OUT_PORT));
    // Each destination has addresses of its own, or all have one.
    let many = [CONNECTIONS; 2];
    let few = [PORTS, 0];
    for (first, proxy, destinations, held) in [
        (20_000, serve("out4:15001", "0.0.0.0"), v4, many),
        (21_000, serve("out4:15001", "127.0.0.1"), v4, few),
        (22_000, serve("out4:15001", "::").dual_stack(), v4, many),
        // IPv6 has one loopback address.
        (23_000, serve("out6:15001", "::"), v6, few),
    ] {
        pod.scene.proxy.serve(&proxy)?;
        // Each with ports that nobody has had: one that was used is not free at once.
        use_ports(&root, first, first + PORTS - 1)?;
        hold(&pod, destinations, &proxy.name, held)?;
        use_ports(&root, 30_000, 39_999)?;
        let dial = Dial::to(destinations[0]);
        check(Server::Out, &dial, &pod.scene.dial_as(1000, 1000, &dial)?)?;
        pod.scene.proxy.stop_server(&proxy.name)?;
    }
    Ok(())
}

fn use_ports(root: &Worker, first: u32, last: u32) -> Tested {
    let range = format!("echo {first} {last} > /proc/sys/net/ipv4/ip_local_port_range");
    let done = root.run(&["sh", "-c", &range])?;
    ensure!(done.is_success(), "{done:?}");
    Ok(())
}

/// Holds that many of [`CONNECTIONS`] to each destination at once, all with their original destination; for the
/// others there is no source port.
fn hold(
    pod: &Redirected,
    destinations: [SocketAddr; 2],
    server: &str,
    expected: [u32; 2],
) -> Tested {
    let app = pod.scene.dialer(1000, 1000)?;
    let before = pod.hits()?;
    let (mut dialled, mut established) = (0, 0);
    for (to, expected) in destinations.into_iter().zip(expected) {
        dialled += CONNECTIONS;
        established += expected;
        let mut held = app.open_connections(&OpenConnections {
            to,
            bind: None,
            count: CONNECTIONS,
        })?;
        let settled = wait_until(Duration::from_secs(5), || {
            held = app.connection_counts().unwrap_or_default();
            held.in_progress == 0
        });
        let failed = held.errors.get("EADDRNOTAVAIL").copied();
        ensure!(
            settled
                && held.established == established
                && failed.unwrap_or_default() == dialled - established,
            "{server} at {to}: expected {established}, but {held:?}"
        );
    }
    let told = wait_until(Duration::from_secs(5), || {
        pod.scene
            .proxy
            .accepted(server)
            .is_ok_and(|accepted| accepted.redirected == u64::from(established))
    });
    ensure!(told, "{:?}", pod.scene.proxy.accepted(server)?);
    let counted = moved(&before, &pod.hits()?);
    ensure!(
        counted.iter().eq([(&"any-included", &u64::from(dialled))]),
        "{counted:?}"
    );
    app.close_connections()
}
