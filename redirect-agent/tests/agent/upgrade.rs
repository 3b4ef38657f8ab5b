//! A version replaces another one under load.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    path::{Path, PathBuf},
    slice,
    time::{Duration, SystemTime},
};

use anyhow::{Result, ensure};
use redirect_common::{
    abi::{ABI_VERSION, Meta},
    hooks::Hook,
};
use redirect_testkit::cases;
use redirect_user::{
    bpf::{Maps, Pins},
    node::attached_by_others,
    sys::{
        attached::{cgroup_of_link, program_of_link},
        cgroup::CgroupId,
    },
};
use rustix::process::Signal;

use crate::{
    Cases, Needs, Tested,
    load::under_load,
    node::Node,
    scene::{OLD, Scene},
};

pub(crate) const CASES: &[Cases] = cases! {
    Needs::Pods => [
        another_build_replaces_the_programs_under_load,
        another_layout_is_taken_over_under_load,
        an_attachment_of_another_layout_stays_if_refused_and_ends_if_unwanted,
    ],
};

const BUILDS: u64 = 4;
const LAYOUTS: [u32; 4] = [
    ABI_VERSION - 1,
    ABI_VERSION + 1,
    ABI_VERSION - 2,
    ABI_VERSION + 2,
];

fn only_cgroup(node: &Node) -> CgroupId {
    let pods = node.pods();
    assert_eq!(pods.len(), 1, "{pods:?}");
    pods[0].id
}

/// Ids of the programs that decide and answer for a cgroup.
fn programs(node: &Node, id: CgroupId) -> Result<BTreeSet<u32>> {
    let pins = Pins::new(node.state_dir());
    let links = Hook::ALL.into_iter().map(|hook| pins.link(id, hook));
    links.map(|link| program_of_link(&link)).collect()
}

fn another_build_replaces_the_programs_under_load() -> Tested {
    let (node, shop) = (Node::new("build"), Scene::new("build")?);
    node.describe("shop", &shop.description(OLD, ""));
    let agent = node.start();
    let id = only_cgroup(&node);
    ensure!(!agent.log().contains("replaced the programs"));
    ensure!(agent.end(Signal::KILL).is_none());
    let mut seen = programs(&node, id)?;
    let row = node.pods();
    let flooded = under_load(slice::from_ref(&shop), || {
        for round in 1..=BUILDS {
            another_build(node.state_dir(), round)?;
            let agent = node.start();
            ensure!(
                agent.log().contains("replaced the programs"),
                "{}",
                agent.log()
            );
            let now = programs(&node, id)?;
            ensure!(now.is_disjoint(&seen), "{now:?} after {seen:?}");
            seen.extend(now);
            ensure!(agent.metric("redirect_agent_actions_total", &[]) == 0);
            ensure!(agent.end(Signal::KILL).is_none());
        }
        Ok(())
    })?;
    flooded.all_answered(&["old"], &[])?;
    ensure!(node.pods() == row, "{row:?}, {:?}", node.pods());
    Ok(())
}

/// Makes the programs look like those of another build: that of `round`.
pub(crate) fn another_build(state_dir: &Path, round: u64) -> Tested {
    let mut maps = Maps::open(&Pins::new(state_dir))?;
    let meta = maps.meta()?;
    let build = meta.build.wrapping_add(round);
    maps.set_meta(Meta { build, ..meta })?;
    Ok(())
}

/// Directory of a layout.
fn version(state_dir: &Path, layout: u32) -> PathBuf {
    state_dir.join(format!("v{layout}"))
}

/// Makes the attachments look like those of another layout, whose maps are never read.
pub(crate) fn rename_layout(state_dir: &Path, layout: u32) -> Tested {
    fs::rename(version(state_dir, ABI_VERSION), version(state_dir, layout))?;
    Ok(())
}

/// Makes a directory look as if it was last changed eleven minutes ago.
fn backdate(folder: &Path) -> Tested {
    let then = SystemTime::now() - Duration::from_mins(11);
    File::open(folder)?.set_modified(then)?;
    Ok(())
}

fn another_layout_is_taken_over_under_load() -> Tested {
    let (node, shop) = (Node::new("layout"), Scene::new("layout")?);
    node.describe("shop", &shop.description(OLD, ""));
    let agent = node.start();
    let id = only_cgroup(&node);
    ensure!(agent.end(Signal::KILL).is_none());
    let pod = |layout| {
        version(node.state_dir(), layout)
            .join("pods")
            .join(id.to_string())
    };
    let flooded = under_load(slice::from_ref(&shop), || {
        for layout in LAYOUTS {
            rename_layout(node.state_dir(), layout)?;
            let decides = attached_by_others(node.state_dir())?;
            ensure!(decides == BTreeSet::from([id]), "{decides:?}");
            let agent = node.start();
            ensure!(
                agent.metric("redirect_agent_actions_total", &["take-over", "ok"]) == 1,
                "{}",
                agent.log()
            );
            ensure!(agent.log().contains("taken over from another version"));
            ensure!(only_cgroup(&node) == id);
            ensure!(attached_by_others(node.state_dir())?.is_empty());
            // The old layout still answers.
            let answering = pod(layout).join(Hook::GetSockOpt.program());
            ensure!(cgroup_of_link(&answering)? == Some(id));
            ensure!(agent.end(Signal::KILL).is_none());
        }
        Ok(())
    })?;
    flooded.all_answered(&["old"], &[])?;
    ensure!(shop.reached()? == "old");

    // The old layouts are not collected before their time.
    let agent = node.start();
    ensure!(
        LAYOUTS
            .iter()
            .all(|layout| version(node.state_dir(), *layout).exists())
    );
    for layout in LAYOUTS {
        backdate(&pod(layout))?;
    }
    agent.until("collected", || {
        LAYOUTS
            .iter()
            .all(|layout| !version(node.state_dir(), *layout).exists())
    });
    ensure!(shop.reached()? == "old");
    ensure!(agent.end(Signal::TERM) == Some(0));
    ensure!(node.run(&["cleanup"]).status == Some(0));
    ensure!(node.leftovers().is_empty() && shop.reached()? == "world");
    Ok(())
}

fn an_attachment_of_another_layout_stays_if_refused_and_ends_if_unwanted() -> Tested {
    let (node, shop) = (Node::new("unwanted"), Scene::new("unwanted")?);
    node.describe("shop", &shop.description(OLD, ""));
    ensure!(node.run(&["run", "--once"]).status == Some(0));
    rename_layout(node.state_dir(), ABI_VERSION - 1)?;
    let plan_shows = |expected: &str| -> Tested {
        let ran = node.run(&["plan"]);
        ensure!(ran.stdout.contains(expected), "{ran:?}");
        Ok(())
    };
    plan_shows("take-over")?;

    node.describe("shop", &shop.description(OLD, ", -o, nonsense"));
    ensure!(node.run(&["run", "--once"]).status == Some(3));
    ensure!(shop.reached()? == "old", "it was refused, and stays");
    ensure!(node.pods().is_empty() && attached_by_others(node.state_dir())?.len() == 1);

    node.forget("shop");
    plan_shows("detach")?;
    ensure!(node.run(&["run", "--once"]).status == Some(0));
    ensure!(shop.reached()? == "world");
    ensure!(attached_by_others(node.state_dir())?.is_empty());
    ensure!(
        !version(node.state_dir(), ABI_VERSION - 1).exists(),
        "nothing answers"
    );
    Ok(())
}
