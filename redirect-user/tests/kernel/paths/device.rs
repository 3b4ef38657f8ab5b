//! Sockets bound to a device.

use std::time::Duration;

use anyhow::ensure;
use redirect_testkit::Dial;

use super::walk::{APP, PROXY, backends, mapped, to, walk, world, world6};
use crate::{Tested, differential::View, harness::moved};

/// Binds a dial to a device.
fn by(device: &str, dial: Dial) -> Dial {
    dial.device(device)
}

/// Binds a dial that gets no answer to a device, with a short limit.
fn lost(device: &str, dial: Dial) -> Dial {
    by(device, dial).timeout(Duration::from_millis(200))
}

pub(super) fn a_bound_device_decides_the_route() -> Tested {
    let backends = backends("device")?;
    // A redirect leads to 127.0.0.1, which eth0 does not reach.
    let dials = [world(), mapped(), world6()].map(|dial| lost("eth0", dial));
    walk(&backends, APP, "ETIMEDOUT", "any-included", dials)?;
    let dials = [world(), mapped()].map(|dial| by("eth0", dial));
    walk(&backends, PROXY, "world4:80", "uid", dials)?;
    walk(&backends, PROXY, "world6:80", "uid", [by("eth0", world6())])?;
    let own = [by("eth0", to("10.77.0.2", 8080))];
    walk(&backends, APP, "app4:8080", "app-lo-uid", own)?;
    let own = [by("eth0", to("fd00:77::2", 8080))];
    walk(&backends, APP, "app6:8080", "app-lo-uid", own)?;

    // A socket bound to lo sends by lo to any destination.
    let dials = [world(), mapped()].map(|dial| lost("lo", dial));
    walk(&backends, APP, "ETIMEDOUT", "app-lo-uid", dials)?;
    walk(
        &backends,
        APP,
        "ENETUNREACH",
        "app-lo-uid",
        [by("lo", world6())],
    )?;
    let own = [by("lo", to("127.0.0.1", 8080))];
    walk(&backends, APP, "app4:8080", "app-lo-uid", own)?;
    let own = [by("lo", to("::1", 8080))];
    walk(&backends, APP, "app6:8080", "app-lo-uid", own)?;
    let own = [by("lo", to("127.0.0.5", 8080))];
    walk(&backends, PROXY, "in4:15006", "uid-to-self", own)
}

/// The rule is the same behind iptables, but the answer arrives by the device with the pod's address, and so does not
/// find the socket. By IPv6 there is not even a route.
pub(super) fn the_proxy_reaches_itself_by_lo_where_iptables_lose_the_answer() -> Tested {
    let backends = backends("by-lo")?;
    for (dial, iptables, server) in [
        (world(), "ETIMEDOUT", "in4:15006"),
        (mapped(), "ETIMEDOUT", "in4:15006"),
        (world6(), "ENETUNREACH", "in6:15006"),
    ] {
        let before = backends.ebpf.hits()?;
        let ebpf = backends
            .ebpf
            .scene
            .dial_as(1337, 1337, &by("lo", dial.clone()))?;
        let theirs = backends
            .iptables
            .dial_as(1337, 1337, &lost("lo", dial.clone()))?;
        ensure!(View::of_iptables(&theirs).outcome == iptables, "{theirs:?}");
        ensure!(
            (ebpf.server(), ebpf.orig_dst(), ebpf.peername)
                == (Some(server), Some(dial.to), Some(dial.to)),
            "{ebpf:?}"
        );
        let counted = moved(&before, &backends.ebpf.hits()?);
        ensure!(counted.iter().eq([(&"uid-to-self", &1)]), "{counted:?}");
    }
    Ok(())
}
