//! Shadow mode: the programs decide and count while real iptables redirect the pod.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use redirect_common::abi::Hits;
use redirect_testkit::{Dial, Pod, cases, iptables, wait_until};
use redirect_user::{
    config::{Inbound, InboundPorts, Include, RedirectConfig},
    node::{ShadowDiff, ShadowFindings},
};

use crate::{
    Cases, Needs, Tested,
    differential::{View, install, probes},
    harness::{ELSEWHERE_V4, FAR_V4, FAR_V6, OUT_PORT, Redirected, Scene, at},
};

pub(crate) const CASES: &[Cases] = cases! {
    Needs::Iptables => [
        shadow_mode_changes_nothing_and_agrees_with_the_same_rules,
        shadow_mode_names_the_differences_from_the_rules,
        a_shadowed_pod_is_cut_over_by_an_update,
    ],
};

/// A short time limit: longer than any connection takes on a machine at rest.
const HASTE: Duration = Duration::from_millis(60);

/// The time that the last connection may take to close.
const PATIENCE: Duration = Duration::from_secs(5);

fn everything(shadow: bool) -> RedirectConfig {
    RedirectConfig {
        include: Include::Any,
        exclude: vec!["36.152.44.0/24".parse().expect("a range")],
        shadow,
        ..RedirectConfig::default()
    }
}

fn result(pod: &Redirected) -> Result<ShadowFindings> {
    let reader = pod.owner.reader()?;
    let found = reader.shadow(&pod.pod(&reader)?)?;
    found.context("the pod is not in shadow mode")
}

/// Waits until this many connections are compared, or cannot be, because the last may still be closing. Returns the
/// result.
fn compared(pod: &Redirected, connections: u64) -> Result<ShadowFindings> {
    let all = || {
        result(pod).is_ok_and(|found| found.agreed + found.differed + found.unknown >= connections)
    };
    let in_time = wait_until(PATIENCE, all);
    let found = result(pod)?;
    ensure!(in_time, "{found:?}, not {connections} connections");
    Ok(found)
}

fn decided(hits: &Hits) -> u64 {
    hits.rules.iter().sum()
}

fn shadow_mode_changes_nothing_and_agrees_with_the_same_rules() -> Tested {
    let plain = Scene::new("shadow-plain")?;
    let scene = Scene::new("shadow")?;
    for pod in [&plain.pod, &scene.pod] {
        install(pod, &everything(false))?;
    }
    let ebpf = Redirected::attach("shadow", scene, &everything(true))?;
    let mut dialled = 0;
    for (uid, gid) in [(1000, 1000), (1337, 1337), (1000, 1337)] {
        for (probe, dial) in probes() {
            let dial = dial.timeout(HASTE);
            let theirs = View::of_iptables(&plain.dial_as(uid, gid, &dial)?);
            let shadowed = View::of_iptables(&ebpf.scene.dial_as(uid, gid, &dial)?);
            ensure!(
                theirs == shadowed,
                "{uid}/{gid} to {probe}\n  alone:     {theirs:?}\n  shadowed:  {shadowed:?}"
            );
            dialled += 1;
        }
    }
    // Connections that sent nothing are decided, but not compared.
    let hits = ebpf.hits()?;
    ensure!(decided(&hits) == dialled, "{hits:?}");
    let all_closed = || {
        ebpf.owner
            .reader()
            .and_then(|reader| reader.maps().shadow_flows())
            .is_ok_and(|open| open == 0)
    };
    ensure!(
        wait_until(PATIENCE, all_closed),
        "some connections are still remembered"
    );
    let found = result(&ebpf)?;
    ensure!(found.differed == 0, "{found:?}");
    ensure!(found.agreed > dialled / 2, "{found:?} of {dialled}");
    Ok(())
}

fn shadow_mode_names_the_differences_from_the_rules() -> Tested {
    let scene = Scene::new("shadow-other")?;
    let rules = RedirectConfig {
        exclude: vec!["2001:db8:1::/48".parse()?],
        ..everything(false)
    };
    install(&scene.pod, &rules)?;
    let ebpf = Redirected::attach("shadow-other", scene, &everything(true))?;
    let app = |to| ebpf.scene.dial_as(1000, 1000, &Dial::to(to));
    let (far4, far6, both) = (at(FAR_V4, 80), at(FAR_V6, 80), at(ELSEWHERE_V4, 80));
    for _ in 0..2 {
        ensure!(
            app(far4)?.server() == Some("out4:15001"),
            "as the rules say"
        );
    }
    ensure!(app(far6)?.server() == Some("world6:80"), "as the rules say");
    ensure!(app(both)?.server() == Some("out4:15001"));
    let found = compared(&ebpf, 4)?;
    let difference = |dst, rule, decided, real, times| ShadowDiff {
        dst,
        rule,
        decided,
        real,
        times,
    };
    let expected = ShadowFindings {
        agreed: 1,
        differed: 3,
        unknown: 0,
        differences: vec![
            difference(far4, "cidr-excluded", None, Some(OUT_PORT), 2),
            difference(far6, "any-included", Some(OUT_PORT), None, 1),
        ],
    };
    ensure!(found == expected, "{found:?}");
    Ok(())
}

fn a_shadowed_pod_is_cut_over_by_an_update() -> Tested {
    let both_ways = |shadow| RedirectConfig {
        inbound: Inbound {
            include_ports: InboundPorts::Any,
            ..Inbound::default()
        },
        ..everything(shadow)
    };
    let scene = Scene::new("shadow-cut")?;
    install(&scene.pod, &both_ways(false))?;
    let ebpf = Redirected::attach("shadow-cut", scene, &both_ways(true))?;
    let dial = Dial::to(at(ELSEWHERE_V4, 80));
    let own: std::net::IpAddr = Pod::V4.into();
    let call = Dial::to((own, 8080).into());
    // First only the rules redirect, then both, then only the programs.
    for step in ["shadow", "both", "cut over"] {
        match step {
            "both" => ebpf.update(&both_ways(false))?,
            "cut over" => iptables::clear(&ebpf.scene.pod, iptables::Backend::Legacy)?,
            _ => {}
        }
        let dialled = ebpf.scene.dial_as(1000, 1000, &dial)?;
        ensure!(
            dialled.server() == Some("out4:15001"),
            "{step}: {dialled:?}"
        );
        ensure!(dialled.orig_dst() == Some(dial.to), "{step}: {dialled:?}");
        let peer = dialled.banner().and_then(|banner| banner.peer);
        ensure!(
            peer.map(|peer| peer.ip()) == Some(own),
            "{step}: {dialled:?}"
        );
        let called = ebpf.scene.world.dial(&call)?;
        ensure!(called.server() == Some("in4:15006"), "{step}: {called:?}");
        ensure!(called.orig_dst() == Some(call.to), "{step}: {called:?}");
    }
    Ok(())
}
