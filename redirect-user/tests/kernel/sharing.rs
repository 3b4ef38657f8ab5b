//! Pods with equal policies share the policy's map entries, and nothing else.

use anyhow::{Result, ensure};
use redirect_testkit::{Dial, Identity, Serve, WorkerCgroup, cases};
use redirect_user::{
    config::{Include, RedirectConfig},
    node::Pod,
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
        equal_policies_are_stored_once_and_go_with_the_last_pod,
        the_inner_of_two_equal_policies_decides,
    ],
};

fn all_but(range: &str) -> Result<RedirectConfig> {
    Ok(RedirectConfig {
        include: Include::Any,
        exclude: vec![range.parse()?, "2001:db8:1::/48".parse()?],
        ..RedirectConfig::default()
    })
}

/// Attaches a second cgroup of a pod.
fn attach(first: &Redirected, cgroup: &Cgroup, config: &RedirectConfig) -> Tested {
    let network = netns(&first.scene.pod)?;
    let mut writer = first.owner.writer()?;
    Ok(writer.attach(cgroup, &network, &dual_stack(config))?)
}

fn found(first: &Redirected, cgroup: &Cgroup) -> Result<Pod> {
    first.owner.reader()?.pod(cgroup.id(), cgroup.path())
}

/// The number of policies and of ranges that are stored.
fn stored(first: &Redirected) -> Result<(usize, usize)> {
    let reader = first.owner.reader()?;
    let maps = reader.maps();
    let mut ranges = 0;
    for policy in maps.policies()? {
        ranges += maps.cidrs(policy)?.len();
    }
    Ok((maps.policies()?.len(), ranges))
}

fn equal_policies_are_stored_once_and_go_with_the_last_pod() -> Tested {
    let config = all_but("36.152.44.0/24")?;
    let first = Redirected::new("shared", &config)?;
    let folder = first.scene.pod.second_cgroup("second")?;
    let second = Cgroup::open(folder.path())?;
    // Fields of the pod's row may differ: the port is one.
    let other_port = RedirectConfig {
        out_port: 15101,
        ..config.clone()
    };
    attach(&first, &second, &other_port)?;
    let proxy = first
        .scene
        .pod
        .worker(&Identity::proxy().cgroup(WorkerCgroup::Folder(folder.proxy())))?;
    proxy.serve(&Serve::new("other4", at("0.0.0.0", 15101)))?;
    let app = first
        .scene
        .pod
        .worker(&Identity::app().cgroup(WorkerCgroup::Folder(folder.app())))?;
    let rows = || -> Result<_> {
        let reader = first.owner.reader()?;
        Ok((first.pod(&reader)?.row, found(&first, &second)?.row))
    };
    let (one, other) = rows()?;
    ensure!(one.policy == other.policy && one.serial != other.serial);
    ensure!(stored(&first)? == (1, 2), "{:?}", stored(&first)?);

    let answers = |elsewhere: &str, far: &str| -> Tested {
        for (to, wanted) in [(ELSEWHERE_V4, elsewhere), (FAR_V4, far)] {
            let to = at(to, 80);
            let dialled = app.dial(&Dial::to(to))?;
            let orig_dst = (!wanted.starts_with("world")).then_some(to);
            ensure!(
                (dialled.server(), dialled.orig_dst()) == (Some(wanted), orig_dst),
                "to {to}: {dialled:?}"
            );
        }
        Ok(())
    };
    answers("other4", "world4:80")?;

    // The first pod gets another policy, and then this one again.
    first.update(&all_but("203.0.113.0/24")?)?;
    let (one, other) = rows()?;
    ensure!(one.policy != other.policy);
    ensure!(stored(&first)? == (2, 4), "{:?}", stored(&first)?);
    answers("other4", "world4:80")?;
    let before = one.serial;
    first.update(&config)?;
    let (one, other) = rows()?;
    ensure!(one.policy == other.policy && one.serial != before);
    ensure!(stored(&first)? == (1, 2), "{:?}", stored(&first)?);

    // The entries stay for the other pod.
    first.detach()?;
    answers("other4", "world4:80")?;
    ensure!(stored(&first)? == (1, 2), "{:?}", stored(&first)?);
    let pod = found(&first, &second)?;
    first.owner.writer()?.detach(&[pod])?;
    answers("world4:80", "world4:80")?;
    ensure!(stored(&first)? == (0, 0), "{:?}", stored(&first)?);
    Ok(())
}

fn the_inner_of_two_equal_policies_decides() -> Tested {
    let config = all_but("36.152.44.0/24")?;
    let outer = Redirected::new("equal", &config)?;
    let inner = Cgroup::open(&outer.scene.pod.cgroup().app())?;
    attach(&outer, &inner, &config)?;
    ensure!(stored(&outer)? == (1, 2), "{:?}", stored(&outer)?);
    let hits = || -> Result<_> {
        let pod = found(&outer, &inner)?;
        Ok([outer.owner.reader()?.hits(&pod)?, outer.hits()?])
    };
    // An IPv6 destination is recorded; an IPv4 connection goes to a stand-in address, which tells its destination.
    for (to, server, rules) in [
        (ELSEWHERE_V4, "out4:15001", [Some("any-included"), None]),
        (ELSEWHERE_V6, "out6:15001", [Some("any-included"), None]),
        (
            FAR_V4,
            "world4:80",
            [Some("cidr-excluded"), Some("cidr-excluded")],
        ),
        (
            FAR_V6,
            "world6:80",
            [Some("cidr-excluded"), Some("cidr-excluded")],
        ),
    ] {
        let to = at(to, 80);
        let before = hits()?;
        let dialled = outer.scene.dial_as(1000, 1000, &Dial::to(to))?;
        let orig_dst = (!server.starts_with("world")).then_some(to);
        ensure!(
            (dialled.server(), dialled.orig_dst()) == (Some(server), orig_dst),
            "to {to}: {dialled:?}"
        );
        ensure!(dialled.peername == Some(to), "to {to}: {dialled:?}");
        let after = hits()?;
        for ((before, after), rule) in before.iter().zip(&after).zip(rules) {
            let counted: Vec<_> = moved(before, after).into_iter().collect();
            let wanted: Vec<_> = rule.map(|rule| (rule, 1)).into_iter().collect();
            ensure!(counted == wanted, "to {to}: {counted:?}, not {wanted:?}");
        }
    }
    Ok(())
}
