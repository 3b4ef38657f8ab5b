//! Multipath sockets of clients and of proxies.

use anyhow::ensure;
use redirect_testkit::{DialReport, Serve};

use super::walk::{APP, PROXY, backends, mapped, to, walk, world, world6};
use crate::{
    Tested,
    differential::View,
    harness::{OUT_PORT, at, moved},
};

/// The programs keep no record for a multipath socket. Over IPv4 the stand-in address tells the dialled destination;
/// over IPv6 the client sees the proxy as its peer.
pub(super) fn a_multipath_socket_is_redirected_and_may_see_the_proxy() -> Tested {
    let backends = backends("multipath")?;
    for dial in [world(), mapped(), world6()] {
        let dial = dial.multipath();
        let before = backends.ebpf.hits()?;
        let dialled = backends.ebpf.scene.dial_as(1000, 1000, &dial)?;
        let counted = moved(&before, &backends.ebpf.hits()?);
        ensure!(counted.iter().eq([(&"any-included", &1)]), "{counted:?}");
        let iptables = View::of_iptables(&backends.iptables.dial_as(1000, 1000, &dial)?);
        let ebpf = View::of(&dialled);
        let answer = |view: &View| (view.outcome.clone(), view.orig_dst, view.server);
        ensure!(
            answer(&ebpf) == answer(&iptables) && ebpf.orig_dst == Some(dial.to),
            "{dial:?}:\n  iptables: {iptables:?}\n  ebpf:     {ebpf:?}"
        );
        let peer = |view: &View| view.client.map(|(_, peer)| peer);
        let seen = if dial.to.is_ipv4() {
            dial.to
        } else {
            at("::1", OUT_PORT)
        };
        ensure!(
            peer(&iptables) == Some(dial.to) && peer(&ebpf) == Some(seen),
            "{dial:?}:\n  iptables: {iptables:?}\n  ebpf:     {ebpf:?}"
        );
    }
    // A multipath socket that is not redirected is like any other.
    let own = [to("10.77.0.2", 8080).multipath()];
    walk(&backends, APP, "app4:8080", "app-lo-uid", own)?;
    walk(&backends, PROXY, "world4:80", "uid", [world().multipath()])
}

/// A proxy's multipath listener accepts a socket from a multipath client that is above the subflow with the record. So
/// the proxy learns no original destination, and neither does it behind iptables.
pub(super) fn a_multipath_proxy_learns_nothing_of_multipath_clients() -> Tested {
    let backends = backends("mp-proxy")?;
    for proxy in [&backends.iptables.proxy, &backends.ebpf.scene.proxy] {
        for (name, any) in [("out4:15001", "0.0.0.0"), ("out6:15001", "::")] {
            proxy.stop_server(name)?;
            proxy.serve(&Serve::new(name, at(any, OUT_PORT)).multipath())?;
        }
    }
    walk(
        &backends,
        APP,
        "out4:15001",
        "any-included",
        [world(), mapped()],
    )?;
    walk(&backends, APP, "out6:15001", "any-included", [world6()])?;
    for dial in [world(), mapped(), world6()] {
        let dial = dial.multipath();
        let answer = |dialled: &DialReport| {
            let seen = dialled.banner();
            (
                dialled.orig_dst(),
                seen.and_then(|seen| seen.orig_dst_error),
            )
        };
        let iptables = backends.iptables.dial_as(1000, 1000, &dial)?;
        let ebpf = backends.ebpf.scene.dial_as(1000, 1000, &dial)?;
        ensure!(
            matches!(answer(&ebpf), (None, Some(_))) && answer(&iptables) == answer(&ebpf),
            "iptables: {iptables:?}\nours:     {ebpf:?}"
        );
    }
    Ok(())
}
