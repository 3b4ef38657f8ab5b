//! Routes to an excluded interface: their changes are followed, and routing by more than the destination is refused.

use anyhow::{Context as _, ensure};
use redirect_user::node::{AddressChange, FollowEventKind};

use super::{
    super::walk::{APP, to, walk},
    two_links::{BEHIND, EXCLUDED, INCLUDED, TwoLinks, config, ip},
};
use crate::{Tested, follow::Following, harness::ELSEWHERE_V4};

pub(in crate::paths) fn routes_to_an_excluded_interface_are_followed() -> Tested {
    let links = TwoLinks::new("exclude-follow", &["net1", "later+"])?;
    let following = Following::pod(&links.backends.ebpf)?;
    let until = |nets: &[&str]| -> Tested {
        let mut wanted = nets.to_vec();
        following
            .until(|event| {
                if let FollowEventKind::Changed(AddressChange { rerouted, .. }) = event {
                    wanted.retain(|net| !rerouted.iter().any(|other| other.to_string() == *net));
                }
                wanted.is_empty().then_some(())
            })
            .with_context(|| format!("wait for {wanted:?}"))
    };
    links.expect(APP, BEHIND, 80, ("world", EXCLUDED))?;
    links.ip("route replace 198.18.1.1/32 via 10.77.0.1 dev eth0")?;
    links.ip("-6 route replace 2001:db8:78::1/128 via fd00:77::1 dev eth0")?;
    until(&["198.18.1.1/32", "2001:db8:78::1/128"])?;
    links.expect(APP, BEHIND, 80, ("out", INCLUDED))?;
    links.ip("route del 198.18.1.1/32")?;
    links.ip("-6 route del 2001:db8:78::1/128")?;
    until(&["198.18.1.1/32", "2001:db8:78::1/128"])?;
    links.expect(APP, BEHIND, 80, ("world", EXCLUDED))?;

    // An interface appears, under another name at first.
    links.ip("link set net1 down")?;
    until(&["198.18.0.0/16", "2001:db8:78::/48"])?;
    links.ip("link set net1 name other1")?;
    links.ip("link set other1 up")?;
    for line in [
        "addr replace fd00:78::2/64 dev other1 nodad",
        "route replace 198.18.0.0/16 via 10.78.0.1 dev other1",
        "-6 route replace 2001:db8:78::/48 via fd00:78::1 dev other1",
    ] {
        links.ip(line)?;
    }
    links.expect_out(BEHIND)?;
    links.ip("link set other1 name later1")?;
    until(&["198.18.0.0/16", "2001:db8:78::/48"])?;
    links.expect(APP, BEHIND, 80, ("world", EXCLUDED))?;
    walk(
        &links.backends,
        APP,
        "world4:80",
        EXCLUDED,
        [to(ELSEWHERE_V4, 80).device("later1")],
    )
}

pub(in crate::paths) fn routing_by_more_than_the_destination_is_refused() -> Tested {
    let links = TwoLinks::new("exclude-unclear", &[])?;
    let ebpf = &links.backends.ebpf.scene;
    let wanted = config(&["net1"]);
    for (add, remove, name) in [
        (
            "rule add from 10.78.0.2 lookup 100",
            "rule del from 10.78.0.2 lookup 100",
            "routing rule 32765 (`ip -4 rule`)",
        ),
        (
            "-6 rule add fwmark 7 lookup 100 pref 9",
            "-6 rule del pref 9",
            "routing rule 9 (`ip -6 rule`)",
        ),
        (
            "route add 198.19.0.0/16 nexthop via 10.77.0.1 dev eth0 nexthop via 10.78.0.1 dev net1",
            "route del 198.19.0.0/16",
            "198.19.0.0/16 leaves by several interfaces",
        ),
        (
            "route add 198.19.0.0/16 tos 8 via 10.77.0.1",
            "route del 198.19.0.0/16 tos 8",
            "198.19.0.0/16 for one type of service",
        ),
        (
            "-6 route add 2001:db8:99::/48 from fd00:77::/64 via fd00:77::1",
            "-6 route del 2001:db8:99::/48 from fd00:77::/64 via fd00:77::1",
            "2001:db8:99::/48 for packets of some sources",
        ),
    ] {
        ip(ebpf, add)?;
        let error = links.update(&wanted).expect_err(add);
        let text = format!("{error:#}");
        ensure!(text.contains(name) && text.contains("-x"), "{add}: {text}");
        // Without excluded interfaces, such routing is accepted.
        links.update(&config(&[]))?;
        links.expect_out(BEHIND)?;
        ip(ebpf, remove)?;
        links.update(&wanted).with_context(|| remove.to_owned())?;
        links.update(&config(&[]))?;
    }
    Ok(())
}
