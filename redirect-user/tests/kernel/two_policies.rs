//! Two policies at once: side by side in one network namespace, and in a cgroup above the other.

use std::{collections::BTreeMap, net::SocketAddr};

use anyhow::{Result, ensure};
use redirect_testkit::{Dial, DialReport, Identity, Serve, WorkerCgroup, cases};
use redirect_user::{
    config::{Include, RedirectConfig},
    sys::cgroup::Cgroup,
};

use crate::{
    Cases, Needs, Tested,
    harness::{
        ELSEWHERE_V4, ELSEWHERE_V6, FAR_V4, FAR_V6, Redirected, at, dual_stack, moved, netns,
    },
};

pub(crate) const CASES: &[Cases] = cases! {
    Needs::Pods => [
        two_pods_in_one_namespace_go_to_their_own_proxies,
        the_innermost_policy_that_redirects_decides,
        another_network_namespace_below_is_left_alone,
    ],
};

/// The outbound port of the second proxy.
const OTHER_PORT: u16 = 15101;

/// Redirects everything except these ranges to this port.
fn all_but(ranges: &[&str], out_port: u16) -> RedirectConfig {
    RedirectConfig {
        out_port,
        include: Include::Any,
        exclude: ranges
            .iter()
            .map(|text| text.parse().expect(text))
            .collect(),
        ..RedirectConfig::default()
    }
}

/// The server that answered, and the original destination that it saw.
fn answer(dialled: &DialReport) -> (Option<&str>, Option<SocketAddr>) {
    (dialled.server(), dialled.orig_dst())
}

fn two_pods_in_one_namespace_go_to_their_own_proxies() -> Tested {
    let one = Redirected::new("two", &all_but(&["36.152.44.0/24"], 15001))?;
    let second = one.scene.pod.second_cgroup("second")?;
    let cgroup = Cgroup::open(second.path())?;
    let settings = all_but(&["203.0.113.0/24"], OTHER_PORT);
    one.owner
        .writer()?
        .attach(&cgroup, &netns(&one.scene.pod)?, &dual_stack(&settings))?;

    let proxy = one
        .scene
        .pod
        .worker(&Identity::proxy().cgroup(WorkerCgroup::Folder(second.proxy())))?;
    proxy.serve(&Serve::new("other4", at("0.0.0.0", OTHER_PORT)))?;
    proxy.serve(&Serve::new("other6", at("::", OTHER_PORT)))?;
    let app = one
        .scene
        .pod
        .worker(&Identity::app().cgroup(WorkerCgroup::Folder(second.app())))?;

    let (elsewhere, far) = (at(ELSEWHERE_V4, 80), at(FAR_V4, 80));
    let first = |to| one.scene.dial_as(1000, 1000, &Dial::to(to));
    ensure!(answer(&first(elsewhere)?) == (Some("out4:15001"), Some(elsewhere)));
    ensure!(answer(&first(far)?) == (Some("world4:80"), None));
    ensure!(answer(&app.dial(&Dial::to(elsewhere))?) == (Some("world4:80"), None));
    ensure!(answer(&app.dial(&Dial::to(far))?) == (Some("other4"), Some(far)));
    let six = at(ELSEWHERE_V6, 80);
    ensure!(answer(&app.dial(&Dial::to(six))?) == (Some("other6"), Some(six)));
    ensure!(answer(&first(six)?) == (Some("out6:15001"), Some(six)));
    // The local addresses of the namespace are known to both policies.
    let own = at("10.77.0.2", 8080);
    ensure!(answer(&app.dial(&Dial::to(own))?) == (Some("app4:8080"), None));

    let mut writer = one.owner.writer()?;
    let pod = writer.pod(cgroup.id(), cgroup.path())?;
    writer.detach(&[pod])?;
    drop(writer);
    ensure!(answer(&app.dial(&Dial::to(far))?) == (Some("world4:80"), None));
    ensure!(answer(&first(elsewhere)?) == (Some("out4:15001"), Some(elsewhere)));
    ensure!(answer(&first(own)?) == (Some("app4:8080"), None));
    ensure!(one.flows()? == 0, "{} flows are left", one.flows()?);
    Ok(())
}

/// The rules that count a connection, with the count.
type Counted = BTreeMap<&'static str, u64>;

/// A destination, the server that answers, and the counts of the inner and the outer policy.
type Nested = (SocketAddr, &'static str, [Counted; 2]);

/// Lists destinations with the expected server and counts.
fn nested_flows() -> Vec<Nested> {
    let rule = |name| BTreeMap::from([(name, 1)]);
    vec![
        // Both policies redirect: the inner one decides, and the outer one leaves the connection alone.
        (
            at("198.51.100.8", 80),
            "other4",
            [rule("any-included"), BTreeMap::new()],
        ),
        (
            at(FAR_V6, 80),
            "other6",
            [rule("any-included"), BTreeMap::new()],
        ),
        // Only the inner policy redirects.
        (
            at("198.51.100.7", 80),
            "other4",
            [rule("any-included"), BTreeMap::new()],
        ),
        // Only the outer policy redirects.
        (
            at(ELSEWHERE_V4, 80),
            "out4:15001",
            [rule("cidr-excluded"), rule("any-included")],
        ),
        (
            at(ELSEWHERE_V6, 80),
            "out6:15001",
            [rule("cidr-excluded"), rule("any-included")],
        ),
        // Neither policy redirects.
        (
            at(FAR_V4, 80),
            "world4:80",
            [rule("cidr-excluded"), rule("cidr-excluded")],
        ),
    ]
}

/// The application's container has a policy of its own, in a cgroup below the pod's.
fn the_innermost_policy_that_redirects_decides() -> Tested {
    let outer_settings = all_but(&["198.51.100.0/24", "36.152.44.0/24"], 15001);
    let outer = Redirected::new("nested", &outer_settings)?;
    let pod = &outer.scene.pod;
    pod.world().add_address("198.51.100.7".parse()?)?;
    let inner = Cgroup::open(&pod.cgroup().app())?;
    let settings = all_but(
        &["203.0.113.0/24", "2001:db8::/48", "36.152.44.0/24"],
        OTHER_PORT,
    );
    outer
        .owner
        .writer()?
        .attach(&inner, &netns(pod)?, &dual_stack(&settings))?;
    outer
        .scene
        .proxy
        .serve(&Serve::new("other4", at("0.0.0.0", OTHER_PORT)))?;
    outer
        .scene
        .proxy
        .serve(&Serve::new("other6", at("::", OTHER_PORT)))?;

    for (to, server, rules) in nested_flows() {
        let before = [hits(&outer, &inner)?, outer.hits()?];
        let dialled = outer.scene.dial_as(1000, 1000, &Dial::to(to))?;
        let after = [hits(&outer, &inner)?, outer.hits()?];
        let orig_dst = (!server.starts_with("world")).then_some(to);
        ensure!(
            answer(&dialled) == (Some(server), orig_dst),
            "to {to}: {dialled:?}"
        );
        ensure!(dialled.peername == Some(to), "to {to}: {dialled:?}");
        let peer = dialled.banner().and_then(|banner| banner.peer);
        ensure!(peer == dialled.sockname, "to {to}: {dialled:?}");
        let counted: Vec<_> = before
            .iter()
            .zip(&after)
            .map(|(before, after)| moved(before, after))
            .collect();
        ensure!(
            counted == rules,
            "to {to}: inner and outer counted {counted:?}"
        );
    }
    ensure!(outer.flows()? == 0, "{} flows are left", outer.flows()?);
    Ok(())
}

/// The counters of another cgroup's policy.
pub(crate) fn hits(pod: &Redirected, cgroup: &Cgroup) -> Result<redirect_common::abi::Hits> {
    let reader = pod.owner.reader()?;
    let inner = reader.pod(cgroup.id(), cgroup.path())?;
    reader.hits(&inner)
}

/// A nested container has a cgroup below the pod's, but a network of its own, where no proxy listens.
fn another_network_namespace_below_is_left_alone() -> Tested {
    let pod = Redirected::new("below", &all_but(&[], 15001))?;
    let cgroup = WorkerCgroup::Folder(pod.scene.pod.cgroup().app());
    let elsewhere = pod
        .scene
        .pod
        .world()
        .worker(&Identity::app().cgroup(cgroup))?;
    let before = pod.hits()?;
    for to in [at(ELSEWHERE_V4, 80), at(ELSEWHERE_V6, 80)] {
        let dialled = elsewhere.dial(&Dial::to(to))?;
        ensure!(
            dialled
                .server()
                .is_some_and(|server| server.starts_with("world")),
            "{dialled:?}"
        );
        ensure!(dialled.peername == Some(to), "{dialled:?}");
        let own = pod.scene.dial_as(1000, 1000, &Dial::to(to))?;
        ensure!(own.orig_dst() == Some(to), "the pod itself: {own:?}");
    }
    ensure!(
        moved(&before, &pod.hits()?) == BTreeMap::from([("any-included", 2)]),
        "the programs decide about connections of the pod's own namespace only"
    );
    Ok(())
}
