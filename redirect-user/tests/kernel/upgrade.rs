//! Another build's programs are replaced while connections are made.

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
    sys::bpf::program_of_link,
};

use crate::{
    Cases, Needs, Tested,
    harness::{ELSEWHERE_V4, ELSEWHERE_V6, FAR_V4, OwnerFolder, Redirected, at, dual_stack, netns},
};

pub(crate) const CASES: &[Cases] = cases! {
    Needs::Pods => [
        every_program_of_a_pod_is_replaced_and_nothing_else,
        where_two_layouts_decide_the_one_that_was_there_does,
        what_an_upgrade_leaves_half_done_is_no_builds_own,
        pins_that_only_another_layout_has_go_with_it,
        what_another_layout_has_redirected_last_is_answered,
    ],
};

fn everything() -> RedirectConfig {
    RedirectConfig {
        include: Include::Any,
        ..RedirectConfig::default()
    }
}

/// Has the programs be those of another build, as far as can be known.
fn age(pod: &Redirected) -> Tested {
    let mut maps = Maps::open(&Pins::new(pod.owner.path()))?;
    let meta = maps.meta()?;
    let build = meta.build.wrapping_add(1);
    maps.set_meta(Meta { build, ..meta })
}

/// The kernel's numbers for the programs that a pod's links run.
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

/// The same without the lookup program.
fn programs_of_cgroup(pod: &Redirected) -> Result<BTreeMap<&'static str, u32>> {
    let pins = Pins::new(pod.owner.path());
    let program = |hook: Hook| {
        let link = pins.link(pod.cgroup.id(), hook);
        Ok((hook.program(), program_of_link(&link)?))
    };
    Hook::ALL.into_iter().map(program).collect()
}

/// Server answers, and which original destination they were told.
fn answered(dialled: &DialReport) -> (Option<&str>, Option<std::net::SocketAddr>) {
    (dialled.server(), dialled.orig_dst())
}

/// Outbound of both families, excluded, and inbound.
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
        "they are this build's"
    );
    let (before, row) = (programs(&pod)?, pod.pod(&pod.owner.reader()?)?.row);
    let hits = pod.hits()?;

    age(&pod)?;
    ensure!(!pod.owner.reader()?.is_current()?);
    let upgraded = pod.owner.writer()?.upgrade()?;
    let all = Upgraded {
        cgroups: 1,
        links: Hook::ALL.len() + 1,
    };
    ensure!(upgraded == Some(all), "{upgraded:?}");
    ensure!(pod.owner.reader()?.is_current()?);
    let after = programs(&pod)?;
    for (name, program) in &before {
        ensure!(after.get(name) != Some(program), "{name} is the old one");
    }
    ensure!(pod.pod(&pod.owner.reader()?)?.row == row);
    ensure!(pod.hits()? == hits, "counters go on");
    check(&pod)?;
    ensure!(pod.hits()? != hits, "and count");

    // A pod that comes later runs the same ones.
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

/// Neither is it the older build's, whose programs are partly replaced: where that one comes back, it has to
/// replace them again.
fn what_an_upgrade_leaves_half_done_is_no_builds_own() -> Tested {
    let pod = Redirected::new("half-way", &RedirectConfig::default())?;
    age(&pod)?;
    let (before, older) = (
        programs_of_cgroup(&pod)?,
        pod.owner.reader()?.maps().meta()?,
    );
    // The last link to be replaced is none.
    let last = Hook::ALL.last().context("no hook")?;
    let pins = Pins::new(pod.owner.path());
    let link = pins.link(pod.cgroup.id(), *last);
    let aside = pod.owner.path().join("aside");
    fs::rename(&link, &aside)?;
    fs::hard_link(pins.program(*last), &link)?;
    let failed = pod.owner.writer()?.upgrade();
    fs::remove_file(&link)?;
    fs::rename(&aside, &link)?;
    ensure!(failed.is_err(), "{failed:?}");

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
    };
    ensure!(pod.owner.writer()?.upgrade()? == Some(all));
    ensure!(pod.owner.reader()?.is_current()?);
    Ok(())
}

/// After a downgrade from a layout with one more hook and one more map.
fn pins_that_only_another_layout_has_go_with_it() -> Tested {
    let pod = Redirected::new("unknown", &everything())?;
    let other = pod.owner.path().join("v999");
    fs::rename(Pins::new(pod.owner.path()).version(), &other)?;
    let links = other.join("pods").join(pod.cgroup.id().to_string());
    let newer = links.join("connect9");
    fs::rename(links.join(Hook::GetSockOpt.program()), &newer)?;
    fs::hard_link(other.join("maps/PORTS"), other.join("maps/NEWER"))?;
    // Nobody's.
    let theirs = other.join("maps/theirs");
    fs::create_dir(&theirs)?;

    let mut writer = pod.owner.writer()?;
    writer.attach(
        &pod.cgroup,
        &netns(&pod.scene.pod)?,
        &dual_stack(&everything()),
    )?;
    ensure!(newer.exists(), "it may have to answer still");
    writer.detach_others(&[pod.cgroup.id()])?;
    drop(writer);
    let left: Vec<_> = fs::read_dir(&other)?.flatten().collect();
    ensure!(theirs.exists() && left.len() == 1, "{left:?}");
    ensure!(
        !pod.owner.reader()?.has_leftovers()?,
        "what is not ebpf is for nobody to collect"
    );
    fs::remove_dir(&theirs)?;
    ensure!(pod.owner.reader()?.has_leftovers()?);
    drop(pod.owner.writer()?);
    ensure!(!other.exists(), "it is empty");
    let to = at(ELSEWHERE_V4, 80);
    let dialled = pod.scene.dial_as(1000, 1000, &Dial::to(to))?;
    ensure!(answered(&dialled) == (Some("out4:15001"), Some(to)));
    pod.detach()?;
    let dialled = pod.scene.dial_as(1000, 1000, &Dial::to(to))?;
    ensure!(answered(&dialled) == (Some("world4:80"), None));
    Ok(())
}

/// How many dial at once.
const DIALLERS: usize = 4;

/// Connections are made all the time, and each is the proxy's, which then learns where it was to go, or is not.
fn what_another_layout_has_redirected_last_is_answered() -> Tested {
    let config = everything();
    let pod = Redirected::new("last", &config)?;
    let pins = Pins::new(pod.owner.path());
    // Of this family every destination is recorded, which takes programs that answer.
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
                .map(|dialling| dialling.join().expect("it panicked"))
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

/// For a moment of a takeover. Neither knows anything of the other's maps; here that is two owner folders.
fn where_two_layouts_decide_the_one_that_was_there_does() -> Tested {
    let everything = RedirectConfig {
        include: Include::Any,
        exclude: vec!["36.152.44.0/24".parse()?],
        ..RedirectConfig::default()
    };
    // What goes over `lo` is not spared.
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
        ensure!(any? + ranges? == 2, "{name}: the first one decides");
        let reader = newer.reader()?;
        let hits = reader.hits(&pod.pod(&reader)?)?;
        ensure!(
            hits.of(RuleId::AnyIncluded) + hits.of(RuleId::CidrIncluded) == 0,
            "{name}: the second one has redirected, too"
        );
    }
    Ok(())
}
