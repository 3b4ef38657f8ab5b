//! The number of connections that a pod can have open at once: as many as it has source ports, for each address of the
//! proxy.

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

/// The number of source ports in the pod.
const PORTS: u32 = 64;
/// The number of connections to a destination: more than ports, and few enough that chance fills none of the
/// destination's stand-ins.
const CONNECTIONS: u32 = PORTS * PER_DESTINATION / 2;

/// One proxy after the other serves in the same pod, without an update of the pod.
fn a_wildcard_proxy_holds_more_connections_than_there_are_ports() -> Tested {
    let pod = Redirected::attach("ports", Scene::without_proxy("ports")?, &settings())?;
    let root = pod.scene.pod.worker(&Identity::root())?;
    let v4 = [at(ELSEWHERE_V4, 80), at(ELSEWHERE_V4, 443)];
    let v6 = [at(ELSEWHERE_V6, 80), at(ELSEWHERE_V6, 443)];
    let serve = |name, ip| Serve::new(name, at(ip, OUT_PORT));
    // Each destination has stand-ins of its own, or all destinations share one address.
    let many = [CONNECTIONS; 2];
    let few = [PORTS, 0];
    for (first, proxy, destinations, expected) in [
        (20_000, serve("out4:15001", "0.0.0.0"), v4, many),
        (21_000, serve("out4:15001", "127.0.0.1"), v4, few),
        (22_000, serve("out4:15001", "::").dual_stack(), v4, many),
        // IPv6 has only one loopback address.
        (23_000, serve("out6:15001", "::"), v6, few),
    ] {
        pod.scene.proxy.serve(&proxy)?;
        // Each proxy gets unused source ports, because a used port is not free at once.
        use_ports(&root, first, first + PORTS - 1)?;
        open(&pod, destinations, &proxy.name, expected)?;
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

/// Opens [`CONNECTIONS`] to each destination at once, of which the expected numbers are established, all with their
/// original destination. For the others there is no source port.
fn open(
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
        let mut counts = app.open_connections(&OpenConnections {
            to,
            bind: None,
            count: CONNECTIONS,
        })?;
        let settled = wait_until(Duration::from_secs(5), || {
            counts = app.connection_counts().unwrap_or_default();
            counts.in_progress == 0
        });
        let failed = counts.errors.get("EADDRNOTAVAIL").copied();
        ensure!(
            settled
                && counts.established == established
                && failed.unwrap_or_default() == dialled - established,
            "{server} at {to}: expected {established}, but {counts:?}"
        );
    }
    let all_seen = wait_until(Duration::from_secs(5), || {
        pod.scene
            .proxy
            .accepted(server)
            .is_ok_and(|accepted| accepted.redirected == u64::from(established))
    });
    ensure!(all_seen, "{:?}", pod.scene.proxy.accepted(server)?);
    let counted = moved(&before, &pod.hits()?);
    ensure!(
        counted.iter().eq([(&"any-included", &u64::from(dialled))]),
        "{counted:?}"
    );
    app.close_connections()
}
