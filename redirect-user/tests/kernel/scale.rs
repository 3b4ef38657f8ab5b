//! A policy with a hundred thousand ranges.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Instant,
};

use anyhow::ensure;
use ipnet::IpNet;
use redirect_testkit::{Dial, cases};
use redirect_user::config::{Include, RedirectConfig};

use crate::{
    Cases, Needs, Tested,
    harness::{Redirected, Scene, ranges_of},
};

pub(crate) const CASES: &[Cases] = cases! {
    Needs::Pods => [a_hundred_thousand_ranges_are_all_in_effect],
};

const V4_RANGES: u32 = 60_000;
const V6_RANGES: u16 = 40_000;

/// The IPv4 address that is `offset` above 11.0.0.0.
const fn v4(offset: u32) -> Ipv4Addr {
    let [_, b, c, d] = Ipv4Addr::from_bits(offset).octets();
    Ipv4Addr::new(11, b, c, d)
}

const fn v6(subnet: u16, host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, subnet, host, 0, 0, 0, 1)
}

/// The ranges: every other /30 of 11/8, and the first /64 of many a /48.
fn ranges() -> Vec<IpNet> {
    let v4s = (0..V4_RANGES).map(|index| IpNet::new(v4(index * 8).into(), 30));
    let v6s = (0..V6_RANGES).map(|index| IpNet::new(v6(index, 0).into(), 64));
    v4s.chain(v6s)
        .map(|net| net.expect("a length that fits").trunc())
        .collect()
}

/// Addresses, each with whether a range contains it.
fn samples() -> Vec<(IpAddr, bool)> {
    let v4s = (0..V4_RANGES * 8 + 16).step_by(997).map(|offset| {
        (
            v4(offset).into(),
            offset / 4 % 2 == 0 && offset < V4_RANGES * 8,
        )
    });
    let v6s = (0..u16::MAX).step_by(499).flat_map(|subnet| {
        [0, 1].map(|host| (v6(subnet, host).into(), host == 0 && subnet < V6_RANGES))
    });
    v4s.chain(v6s).collect()
}

fn a_hundred_thousand_ranges_are_all_in_effect() -> Tested {
    let everything = RedirectConfig {
        include: Include::Any,
        ..RedirectConfig::default()
    };
    let pod = Redirected::attach("scale", Scene::new("scale")?, &everything)?;
    let settings = RedirectConfig {
        exclude: ranges(),
        ..everything.clone()
    };
    let begun = Instant::now();
    pod.update(&settings)?;
    let loading = begun.elapsed();

    let reader = pod.owner.reader()?;
    let attached = pod.pod(&reader)?;
    ensure!(ranges_of(&reader, &attached)? == settings.exclude.len());
    let bytes: u64 = reader.memory()?.iter().map(|map| map.bytes).sum();
    eprintln!(
        "{} ranges: loaded in {loading:.1?}, {} MB in all maps",
        settings.exclude.len(),
        bytes >> 20
    );
    for (ip, is_excluded) in samples() {
        let flags = reader.maps().cidr(attached.row.policy, ip.into())?;
        ensure!(flags.excluded() == is_excluded, "{ip}: {flags:?}");
    }
    drop(reader);

    for (ip, is_excluded) in samples().into_iter().step_by(40) {
        pod.scene.pod.world().add_address(ip)?;
        let to = SocketAddr::new(ip, 80);
        let dialled = pod.scene.dial_as(1000, 1000, &Dial::to(to))?;
        let orig_dst = (!is_excluded).then_some(to);
        let role = if is_excluded { "world" } else { "out" };
        ensure!(
            dialled.orig_dst() == orig_dst
                && dialled
                    .server()
                    .is_some_and(|server| server.starts_with(role)),
            "{ip}: {dialled:?}"
        );
    }

    let begun = Instant::now();
    pod.update(&everything)?;
    eprintln!("removed in {:.1?}", begun.elapsed());
    let reader = pod.owner.reader()?;
    ensure!(ranges_of(&reader, &pod.pod(&reader)?)? == 0);
    let left = pod.pod(&reader)?.row.policy;
    ensure!(
        reader.maps().policies()? == [left].into(),
        "{:?}",
        reader.maps().policies()?
    );
    Ok(())
}
