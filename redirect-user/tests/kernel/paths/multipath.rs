//! Multipath sockets, at either end.

use anyhow::ensure;
use redirect_testkit::{DialReport, Serve};

use super::{APP, PROXY, mapped, to, twins, walk, world, world6};
use crate::{
    Tested,
    differential::View,
    harness::{OUT_PORT, at, moved},
};

/// A multipath socket has no record of its own. Over IPv4 the proxy's address says what was dialled; over
/// IPv6 it sees the connection as it is.
pub(super) fn a_multipath_socket_is_redirected_and_may_see_the_proxy() -> Tested {
    let twins = twins("multipath")?;
    for dial in [world(), mapped(), world6()] {
        let dial = dial.multipath();
        let before = twins.ours.hits()?;
        let dialled = twins.ours.scene.dial_as(1000, 1000, &dial)?;
        let counted = moved(&before, &twins.ours.hits()?);
        ensure!(counted.iter().eq([(&"any-included", &1)]), "{counted:?}");
        let iptables = View::of_iptables(&twins.iptables.dial_as(1000, 1000, &dial)?);
        let ours = View::of(&dialled);
        let answer = |view: &View| (view.outcome.clone(), view.orig_dst, view.server);
        ensure!(
            answer(&ours) == answer(&iptables) && ours.orig_dst == Some(dial.to),
            "{dial:?}:\n  iptables: {iptables:?}\n  ours:     {ours:?}"
        );
        let peer = |view: &View| view.client.map(|(_, peer)| peer);
        let seen = if dial.to.is_ipv4() {
            dial.to
        } else {
            at("::1", OUT_PORT)
        };
        ensure!(
            peer(&iptables) == Some(dial.to) && peer(&ours) == Some(seen),
            "{dial:?}:\n  iptables: {iptables:?}\n  ours:     {ours:?}"
        );
    }
    // Not redirected, it is like any other.
    let own = [to("10.77.0.2", 8080).multipath()];
    walk(&twins, APP, "app4:8080", "app-lo-uid", own)?;
    walk(&twins, PROXY, "world4:80", "uid", [world().multipath()])
}

/// What a proxy accepts on a multipath listener from a multipath client is a socket above the one
/// that the record is on. It is told nothing, behind iptables either.
pub(super) fn a_multipath_proxy_learns_nothing_of_multipath_clients() -> Tested {
    let twins = twins("mp-proxy")?;
    for proxy in [&twins.iptables.proxy, &twins.ours.scene.proxy] {
        for (name, any) in [("out4:15001", "0.0.0.0"), ("out6:15001", "::")] {
            proxy.stop_server(name)?;
            proxy.serve(&Serve::new(name, at(any, OUT_PORT)).multipath())?;
        }
    }
    walk(
        &twins,
        APP,
        "out4:15001",
        "any-included",
        [world(), mapped()],
    )?;
    walk(&twins, APP, "out6:15001", "any-included", [world6()])?;
    for dial in [world(), mapped(), world6()] {
        let dial = dial.multipath();
        let told = |dialled: &DialReport| {
            let seen = dialled.banner();
            (
                dialled.orig_dst(),
                seen.and_then(|seen| seen.orig_dst_error),
            )
        };
        let iptables = twins.iptables.dial_as(1000, 1000, &dial)?;
        let ours = twins.ours.scene.dial_as(1000, 1000, &dial)?;
        ensure!(
            matches!(told(&ours), (None, Some(_))) && told(&iptables) == told(&ours),
            "iptables: {iptables:?}\nours:     {ours:?}"
        );
    }
    Ok(())
}
