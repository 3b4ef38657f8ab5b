//! Upgrades: the programs of another build, or of another layout, are replaced while connections are made.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use redirect_common::{abi::Meta, chain::RuleId, hooks::Hook};
use redirect_testkit::{Dial, DialReport, Identity, cases, wait_until};
use redirect_user::{
    bpf::{Maps, Pins, program_report},
    config::{Inbound, InboundPorts, Include, RedirectConfig},
    node::Upgraded,
    sys::attached::program_of_link,
};

use crate::{
    Cases, Needs, Tested,
    harness::{ELSEWHERE_V4, ELSEWHERE_V6, FAR_V4, OwnerFolder, Redirected, at, dual_stack, netns},
};

pub(crate) const CASES: &[Cases] = cases! {
    Needs::Pods => [
        every_program_of_a_pod_is_replaced_and_nothing_else,
        the_first_of_two_layouts_decides,
        a_half_done_upgrade_belongs_to_no_build,
        pins_of_another_layout_are_removed_with_it,
        the_last_connections_of_another_layout_are_answered,
    ],
};

fn everything() -> RedirectConfig {
    RedirectConfig {
        include: Include::Any,
        ..RedirectConfig::default()
    }
}

/// Marks the programs as those of another build.
fn age(pod: &Redirected) -> Tested {
    let mut maps = Maps::open(&Pins::new(pod.owner.path()))?;
    let meta = maps.meta()?;
    let build = meta.build.wrapping_add(1);
    maps.set_meta(Meta { build, ..meta })
}

/// The kernel's ids of the programs that a pod's links run.
fn programs(pod: &Redirected) -> Result<BTreeMap<&'static str, u32>> {
    let pins = Pins::new(pod.owner.path());
    Hook::ALL
        .into_iter()
        .chain([Hook::SkLookup])
        .map(|hook| {
            let link = pins.link(pod.cgroup.id(), hook);
            Ok((hook.program(), program_of_link(&link)?))
        })
        .collect()
}

/// The kernel's ids of the programs on a pod's cgroup, without the lookup program.
fn programs_of_cgroup(pod: &Redirected) -> Result<BTreeMap<&'static str, u32>> {
    let pins = Pins::new(pod.owner.path());
    let program = |hook: Hook| {
        let link = pins.link(pod.cgroup.id(), hook);
        Ok((hook.program(), program_of_link(&link)?))
    };
    Hook::ALL.into_iter().map(program).collect()
}

/// The server that answered, and the original destination that it saw.
fn answered(dialled: &DialReport) -> (Option<&str>, Option<std::net::SocketAddr>) {
    (dialled.server(), dialled.orig_dst())
}

/// Checks outbound connections of both families, an excluded one, and an inbound one.
fn check(pod: &Redirected) -> Tested {
    let dial = |to| pod.scene.dial_as(1000, 1000, &Dial::to(to));
    let (four, six) = (at(ELSEWHERE_V4, 80), at(ELSEWHERE_V6, 80));
    ensure!(answered(&dial(four)?) == (Some("out4:15001"), Some(four)));
    ensure!(answered(&dial(six)?) == (Some("out6:15001"), Some(six)));
    ensure!(answered(&dial(at(FAR_V4, 80))?) == (Some("world4:80"), None));
    let own = at("10.77.0.2", 8080);
    let arrived = pod.scene.world.dial(&Dial::to(own))?;
    ensure!(
        answered(&arrived) == (Some("in4:15006"), Some(own)),
        "{arrived:?}"
    );
    Ok(())
}

fn every_program_of_a_pod_is_replaced_and_nothing_else() -> Tested {
    let config = RedirectConfig {
        include: Include::Any,
        exclude: vec!["36.152.44.0/24".parse()?],
        inbound: Inbound {
            include_ports: InboundPorts::Any,
            ..Inbound::default()
        },
        ..RedirectConfig::default()
    };
    let pod = Redirected::new("upgrade", &config)?;
    check(&pod)?;
    ensure!(
        pod.owner.writer()?.upgrade()?.is_none(),
        "an upgrade replaced programs of this build"
    );
    let (before, row) = (programs(&pod)?, pod.pod(&pod.owner.reader()?)?.row);
    let hits = pod.hits()?;

    age(&pod)?;
    ensure!(!pod.owner.reader()?.is_current()?);
    let upgraded = pod.owner.writer()?.upgrade()?;
    let all = Upgraded {
        cgroups: 1,
        links: Hook::ALL.len() + 1,
        failed: Vec::new(),
    };
    ensure!(upgraded == Some(all), "{upgraded:?}");
    ensure!(pod.owner.reader()?.is_current()?);
    let after = programs(&pod)?;
    for (name, program) in &before {
        ensure!(
            after.get(name) != Some(program),
            "{name} is still the old program"
        );
    }
    ensure!(pod.pod(&pod.owner.reader()?)?.row == row);
    ensure!(pod.hits()? == hits, "the upgrade changed the counters");
    check(&pod)?;
    ensure!(
        pod.hits()? != hits,
        "the counters do not count after the upgrade"
    );

    // A pod that is attached later runs the same programs.
    let pins = Pins::new(pod.owner.path());
    for hook in Hook::ALL {
        program_report(&pins, hook)?;
    }
    pod.detach()?;
    let dialled = pod
        .scene
        .dial_as(1000, 1000, &Dial::to(at(ELSEWHERE_V4, 80)))?;
    ensure!(answered(&dialled) == (Some("world4:80"), None));
    Ok(())
}

/// After a failed upgrade the programs belong to neither build: if the older build comes back, it has to replace them
/// again.
fn a_half_done_upgrade_belongs_to_no_build() -> Tested {
    let pod = Redirected::new("half-way", &RedirectConfig::default())?;
    age(&pod)?;
    let (before, older) = (
        programs_of_cgroup(&pod)?,
        pod.owner.reader()?.maps().meta()?,
    );
    // A folder with a file is in place of the last link, so that neither replacing nor repairing it succeeds.
    let last = Hook::ALL.last().context("find the last hook")?;
    let pins = Pins::new(pod.owner.path());
    let link = pins.link(pod.cgroup.id(), *last);
    let aside = pod.owner.path().join("aside");
    fs::rename(&link, &aside)?;
    fs::create_dir(&link)?;
    fs::hard_link(pins.program(*last), link.join("file"))?;
    let failed = pod.owner.writer()?.upgrade();
    fs::remove_dir_all(&link)?;
    fs::rename(&aside, &link)?;
    let failed = failed?.context("nothing was replaced")?.failed;
    ensure!(
        failed.len() == 1 && failed.iter().all(|pod| pod.error.contains(last.program())),
        "{failed:?}"
    );

    let after = programs_of_cgroup(&pod)?;
    let replaced = before
        .iter()
        .filter(|(name, id)| after.get(*name) != Some(id));
    let replaced = replaced.count();
    ensure!(
        replaced > 0 && replaced < before.len(),
        "{before:?}, {after:?}"
    );
    let reader = pod.owner.reader()?;
    ensure!(!reader.is_current()?);
    ensure!(
        reader.maps().meta()?.build != older.build,
        "the older build would leave them as they are"
    );
    drop(reader);
    let all = Upgraded {
        cgroups: 1,
        links: Hook::ALL.len(),
        failed: Vec::new(),
    };
    ensure!(pod.owner.writer()?.upgrade()? == Some(all));
    ensure!(pod.owner.reader()?.is_current()?);
    Ok(())
}

/// The state is as after a downgrade from a layout with one more hook and one more map.
fn pins_of_another_layout_are_removed_with_it() -> Tested {
    let pod = Redirected::new("unknown", &everything())?;
    let other = pod.owner.path().join("v999");
    fs::rename(Pins::new(pod.owner.path()).version(), &other)?;
    let links = other.join("pods").join(pod.cgroup.id().to_string());
    let newer = links.join("connect9");
    fs::rename(links.join(Hook::GetSockOpt.program()), &newer)?;
    fs::hard_link(other.join("maps/PORTS"), other.join("maps/NEWER"))?;
    // A foreign directory, which is not removed.
    let foreign = other.join("maps/foreign");
    fs::create_dir(&foreign)?;

    let mut writer = pod.owner.writer()?;
    writer.attach(
        &pod.cgroup,
        &netns(&pod.scene.pod)?,
        &dual_stack(&everything()),
    )?;
    ensure!(
        newer.exists(),
        "the old layout's program is removed too early"
    );
    writer.detach_others(&[pod.cgroup.id()])?;
    drop(writer);
    let left: Vec<_> = fs::read_dir(&other)?.flatten().collect();
    ensure!(foreign.exists() && left.len() == 1, "{left:?}");
    ensure!(
        !pod.owner.reader()?.has_leftovers()?,
        "a foreign directory counts as a leftover"
    );
    fs::remove_dir(&foreign)?;
    ensure!(pod.owner.reader()?.has_leftovers()?);
    drop(pod.owner.writer()?);
    ensure!(!other.exists(), "the empty directory stays");
    let to = at(ELSEWHERE_V4, 80);
    let dialled = pod.scene.dial_as(1000, 1000, &Dial::to(to))?;
    ensure!(answered(&dialled) == (Some("out4:15001"), Some(to)));
    pod.detach()?;
    let dialled = pod.scene.dial_as(1000, 1000, &Dial::to(to))?;
    ensure!(answered(&dialled) == (Some("world4:80"), None));
    Ok(())
}

/// The number of workers that dial at once.
const DIALLERS: usize = 4;

/// While the layout changes, every connection either reaches the proxy, which learns the destination, or is direct.
fn the_last_connections_of_another_layout_are_answered() -> Tested {
    let config = everything();
    let pod = Redirected::new("last", &config)?;
    let pins = Pins::new(pod.owner.path());
    // Every IPv6 destination is recorded, so that a program must answer the proxy's query.
    let to = at(ELSEWHERE_V6, 80);
    for round in 0..2 {
        let other = pod.owner.path().join(format!("v99{round}"));
        fs::rename(pins.version(), &other)?;
        let (over, dials) = (AtomicBool::new(false), AtomicUsize::new(0));
        let dial_on = || -> Result<BTreeSet<_>> {
            let app = pod.scene.pod.worker(&Identity::app())?;
            let mut seen = BTreeSet::new();
            while !over.load(Ordering::Relaxed) {
                dials.fetch_add(1, Ordering::Relaxed);
                let dialled = app.dial(&Dial::to(to))?;
                let (server, orig_dst) = answered(&dialled);
                seen.insert((server.map(str::to_owned), orig_dst));
            }
            Ok(seen)
        };
        let seen = thread::scope(|scope| {
            let dialling: Vec<_> = (0..DIALLERS).map(|_| scope.spawn(dial_on)).collect();
            let detached = pod.owner.writer().and_then(|writer| {
                wait_until(Duration::from_secs(20), || {
                    dials.load(Ordering::Relaxed) > DIALLERS * 3
                });
                writer.detach_others(&[pod.cgroup.id()])
            });
            over.store(true, Ordering::Relaxed);
            let seen: Result<Vec<_>> = dialling
                .into_iter()
                .map(|dialling| dialling.join().expect("a dialling thread panicked"))
                .collect();
            detached.and(seen)
        })?;
        let wanted = [
            (Some("out6:15001".to_owned()), Some(to)),
            (Some("world6:80".to_owned()), None),
        ];
        let seen: BTreeSet<_> = seen.into_iter().flatten().collect();
        ensure!(
            seen.contains(&wanted[0]) && seen.iter().all(|seen| wanted.contains(seen)),
            "round {round}: {seen:?}"
        );
        pod.owner
            .writer()?
            .attach(&pod.cgroup, &netns(&pod.scene.pod)?, &dual_stack(&config))?;
    }
    Ok(())
}

/// This happens for a moment of a takeover. Neither layout knows the other's maps; the test has two state directories.
fn the_first_of_two_layouts_decides() -> Tested {
    let everything = RedirectConfig {
        include: Include::Any,
        exclude: vec!["36.152.44.0/24".parse()?],
        ..RedirectConfig::default()
    };
    // Connections over `lo` are redirected as well.
    let with_loopback = RedirectConfig {
        include: Include::Cidrs(vec![
            "127.0.0.0/8".parse()?,
            "::/0".parse()?,
            "0.0.0.0/0".parse()?,
        ]),
        ..everything.clone()
    };
    for (name, config) in [("both", everything), ("both-lo", with_loopback)] {
        let pod = Redirected::new(name, &config)?;
        let newer = OwnerFolder::new(&format!("{name}-newer"));
        newer
            .writer()?
            .attach(&pod.cgroup, &netns(&pod.scene.pod)?, &dual_stack(&config))?;
        for to in [ELSEWHERE_V4, ELSEWHERE_V6] {
            let to = at(to, 80);
            let dialled = pod.scene.dial_as(1000, 1000, &Dial::to(to))?;
            let server = dialled.server().unwrap_or_default();
            ensure!(
                server.starts_with("out") && dialled.orig_dst() == Some(to),
                "{name}, to {to}: {dialled:?}"
            );
            ensure!(dialled.peername == Some(to), "{name}, to {to}: {dialled:?}");
        }
        let excluded = pod.scene.dial_as(1000, 1000, &Dial::to(at(FAR_V4, 80)))?;
        ensure!(
            answered(&excluded) == (Some("world4:80"), None),
            "{name}: {excluded:?}"
        );
        let decided = [RuleId::AnyIncluded, RuleId::CidrIncluded].map(|rule| {
            let hits = pod.hits()?;
            anyhow::Ok(hits.of(rule))
        });
        let [any, ranges] = decided;
        ensure!(
            any? + ranges? == 2,
            "{name}: the first layout did not decide"
        );
        let reader = newer.reader()?;
        let hits = reader.hits(&pod.pod(&reader)?)?;
        ensure!(
            hits.of(RuleId::AnyIncluded) + hits.of(RuleId::CidrIncluded) == 0,
            "{name}: the second layout has redirected, too"
        );
    }
    Ok(())
}
