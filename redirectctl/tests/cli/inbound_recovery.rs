//! Inbound connections go where the pod's row says, even if an earlier command was killed: the next command that writes
//! finishes its work.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};
use redirect_testkit::{Identity, KillResult, cases, kill_after, wait_until};
use redirect_user::node::{Reader, Writer};

use crate::{
    Cases,
    Needs::{Pods, PodsAnd},
    Tested,
    ctl::{self, TempFile},
    scene::Scene,
};

pub(crate) const CASES: &[Cases] = cases! {
    Pods => [
        a_killed_detach_leaves_inbound_connections_as_the_row_says,
        a_killed_refresh_leaves_inbound_connections_as_the_row_says,
    ],
    PodsAnd(&["strace"]) => [collecting_a_removed_cgroup_searches_no_sockets],
};

const WITH_INBOUND: [&str; 4] = ["-i", "*", "-b", "*"];

/// Opens a writer, which finishes an interrupted change, and asserts that it has.
fn assert_finished(scene: &Scene, step: &str) -> Tested {
    drop(Writer::open(scene.ctl.folder())?);
    let reader = Reader::open(scene.ctl.folder())?.context("nothing is loaded")?;
    let pods = reader.pods()?;
    let wanted = pods.first().map(|pod| pod.row);
    let inbound = reader.maps().inbound();
    for pod in &pods {
        assert_eq!(inbound.row(pod.id)?, wanted, "{step}");
    }
    drop(reader);
    let server = if wanted.is_some() { "inbound" } else { "app" };
    assert_eq!(scene.inbound_answers()?, [server; 2], "{step}");
    Ok(())
}

fn a_killed_detach_leaves_inbound_connections_as_the_row_says() -> Tested {
    let scene = Scene::new("finish-detach")?;
    let argv = scene.with_cgroup(&["detach"]);
    let argv = scene.ctl.argv(&argv);
    for kills in 0.. {
        let attached = Reader::open(scene.ctl.folder())?.map(|reader| reader.pods());
        let is_attached = attached.transpose()?.is_some_and(|pods| !pods.is_empty());
        let command = if is_attached { "update" } else { "attach" };
        scene.ok(&[&[command], &WITH_INBOUND[..]].concat());
        match kill_after(kills, &argv)? {
            KillResult::Killed(change) => {
                assert_finished(&scene, &format!("after {kills} changes, at {change}"))?;
            }
            KillResult::Exited { status, stderr } => {
                assert_eq!(status, 0, "{stderr}");
                return assert_finished(&scene, "undisturbed");
            }
        }
    }
    Ok(())
}

/// Only the source address of the pod's connections changes.
fn a_killed_refresh_leaves_inbound_connections_as_the_row_says() -> Tested {
    let scene = Scene::new("finish-refresh")?;
    let root = scene.pod.worker(&Identity::root())?;
    let ip = |arguments: &str| -> Result<()> {
        let argv: Vec<_> = ["ip"].into_iter().chain(arguments.split(' ')).collect();
        let done = root.run(&argv)?;
        assert!(done.is_success(), "ip {arguments}: {done:?}");
        Ok(())
    };
    ip("addr add 10.77.0.3/24 dev eth0")?;
    scene.ok(&[&["attach"], &WITH_INBOUND[..]].concat());
    let argv = scene.with_cgroup(&["follow"]);
    let argv = scene.ctl.argv(&argv);
    let sources = ["10.77.0.3", "10.77.0.2"];
    // After these changes, `follow` runs for ever.
    for (kills, source) in (0..).zip(sources.into_iter().cycle()).take(REFRESH) {
        ip(&format!("route change default via 10.77.0.1 src {source}"))?;
        let KillResult::Killed(change) = kill_after(kills, &argv)? else {
            panic!("follow has ended");
        };
        assert_finished(&scene, &format!("after {kills} changes, at {change}"))?;
        // The next round begins with the row that the killed command would have written.
        scene.ok(&[&["update"], &WITH_INBOUND[..]].concat());
    }
    Ok(())
}

/// The time that the kernel may take to forget a removed cgroup.
const GONE: Duration = Duration::from_secs(10);

/// The number of changes of a refresh: both rows, between two marks.
const REFRESH: usize = 4;

fn collecting_a_removed_cgroup_searches_no_sockets() -> Tested {
    let scene = Scene::new("search")?;
    let namespace = scene.pod.namespace();
    let named = ["--netns", namespace.to_str().unwrap()];
    let attach = [&["attach"], &WITH_INBOUND[..]].concat();
    // An attach with inbound redirection searches the sockets of its own pod. A command that only collects a removed
    // cgroup searches none.
    for (name, args, is_searched) in [
        ("goes", scene.with_cgroup(&attach), true),
        ("goes-too", vec!["upgrade"], false),
    ] {
        let other = scene.pod.second_cgroup(name)?;
        let cgroup = ["--cgroup", other.path().to_str().unwrap()];
        scene.ctl.ok(&[&["attach"], &cgroup[..], &named].concat());
        drop(other);
        // The kernel removes the links of a removed cgroup a moment later.
        let is_gone = || {
            let reader = Reader::open(scene.ctl.folder()).unwrap().unwrap();
            reader.has_leftovers().unwrap()
        };
        assert!(wait_until(GONE, is_gone), "the links still exist");
        let calls = TempFile::new("calls", "");
        let strace = ["strace", "-f", "-qqq", "-e", "trace=pidfd_getfd"];
        let into = ["-o", calls.path()];
        let argv = scene.ctl.argv(&args);
        ctl::run(&[&strace[..], &into, &argv].concat(), &[], "").ok();
        let calls = fs::read_to_string(calls.path())?;
        assert_eq!(
            calls.contains("pidfd_getfd"),
            is_searched,
            "{args:?}: {calls}"
        );
        let reader = Reader::open(scene.ctl.folder())?.context("nothing is loaded")?;
        assert!(!reader.has_leftovers()?, "leftovers are not collected");
    }
    Ok(())
}
