//! How many connections a pod can hold at once: as many as it has source ports, for each address
//! of the proxy.

use std::{net::SocketAddr, time::Duration};

use anyhow::ensure;
use redirect_testkit::{Dial, Hold, Identity, Serve, Worker, wait_until};

use crate::{
    Test, Tested,
    harness::{ELSEWHERE_V4, ELSEWHERE_V6, OUT_PORT, Redirected, Scene, Who, at, moved},
    sockets::{check, settings},
};

pub(crate) const TESTS: &[Test] = &[(
    "a_wildcard_proxy_holds_more_connections_than_there_are_ports",
    a_wildcard_proxy_holds_more_connections_than_there_are_ports,
)];

/// How many source ports the pod has.
const PORTS: u32 = 64;
/// Not more than a server keeps open.
const CONNECTIONS: u32 = 500;

/// One proxy after the other, in the same pod, without a word to the redirector.
fn a_wildcard_proxy_holds_more_connections_than_there_are_ports() -> Tested {
    let pod = Redirected::attach("ports", Scene::without_proxy("ports")?, &settings())?;
    let root = pod.scene.pod.worker(&Identity::root())?;
    let (v4, v6) = (at(ELSEWHERE_V4, 80), at(ELSEWHERE_V6, 80));
    let serve = |name, ip| Serve::new(name, at(ip, OUT_PORT));
    for (first, proxy, to, held) in [
        (20_000, serve("out4:15001", "0.0.0.0"), v4, CONNECTIONS),
        (21_000, serve("out4:15001", "127.0.0.1"), v4, PORTS),
        (
            22_000,
            serve("out4:15001", "::").dual_stack(),
            v4,
            CONNECTIONS,
        ),
        // IPv6 has one loopback address.
        (23_000, serve("out6:15001", "::"), v6, PORTS),
    ] {
        pod.scene.proxy.serve(&proxy)?;
        // Each with ports that nobody has had: one that was used is not free at once.
        use_ports(&root, first, first + PORTS - 1)?;
        hold(&pod, to, &proxy.name, held)?;
        use_ports(&root, 30_000, 39_999)?;
        let dial = Dial::to(to);
        check(Who::Out, &dial, &pod.scene.dial_as(1000, 1000, &dial)?)?;
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

/// Holds that many of [`CONNECTIONS`] at once, all with their original destination; for the others
/// there is no source port.
fn hold(pod: &Redirected, to: SocketAddr, server: &str, expected: u32) -> Tested {
    let app = pod.scene.dialer(1000, 1000)?;
    let before = pod.hits()?;
    let mut held = app.hold(&Hold {
        to,
        connections: CONNECTIONS,
    })?;
    let settled = wait_until(Duration::from_secs(5), || {
        held = app.held().unwrap_or_default();
        held.in_progress == 0
    });
    let failed = held.errors.get("EADDRNOTAVAIL").copied();
    ensure!(
        settled
            && held.established == expected
            && failed.unwrap_or_default() == CONNECTIONS - expected,
        "{server} at {to}: expected {expected}, but {held:?}"
    );
    let told = wait_until(Duration::from_secs(5), || {
        pod.scene
            .proxy
            .accepted(server)
            .is_ok_and(|accepted| accepted.redirected == u64::from(expected))
    });
    ensure!(told, "{:?}", pod.scene.proxy.accepted(server)?);
    let counted = moved(&before, &pod.hits()?);
    ensure!(
        counted
            .iter()
            .eq([(&"any-included", &u64::from(CONNECTIONS))]),
        "{counted:?}"
    );
    app.release()
}
