//! A command that is killed at any step leaves the old state or the new one, and the next command
//! finds its way from there.
//!
//! The real program is killed after each change that it makes to what the kernel keeps, until it
//! survives.

use std::{fs, path::Path};

use anyhow::Result;
use redirect_common::abi::{ABI_VERSION, Meta};
use redirect_testkit::{KillResult, cases, kill_after};
use redirect_user::{
    bpf::{Maps, Pins},
    node::{Reader, attached_by_others},
};

use crate::{
    Cases,
    Needs::{Pods, PodsAnd},
    Tested,
    ctl::{self, version_of},
    scene::Scene,
};

pub(crate) const CASES: &[Cases] = cases! {
    Pods => [
        // First those that take longest.
        uninstall_killed_at_any_step,
        take_over_killed_at_any_step,
        upgrade_killed_at_any_step,
        attach_without_another_thread_is_refused,
        first_attach_killed_at_any_step,
        attach_killed_at_any_step,
        update_killed_at_any_step,
        detach_killed_at_any_step,
        cidr_replace_killed_at_any_step,
        attach_with_inbound_killed_at_any_step,
        update_to_inbound_killed_at_any_step,
        detach_with_inbound_killed_at_any_step,
    ],
    PodsAnd(&["strace"]) => [attach_goes_on_when_signals_come_in],
};

/// More steps than any command has.
const ENDLESS: usize = 1000;

const OLD: &[&str] = &["-i", "*", "-x", "36.152.44.0/24,2001:db8::/48"];
const NEW: &[&str] = &[
    "-i",
    "*",
    "-p",
    "15002",
    "-x",
    "198.51.100.0/24,2001:db8:1::/48",
];
/// Who answers at the two ranges, IPv4 and IPv6 each.
const UNDER_NOTHING: [&str; 4] = ["world", "world", "world", "world"];
const UNDER_OLD: [&str; 4] = ["world", "world", "proxy", "proxy"];
const UNDER_NEW: [&str; 4] = ["other", "other", "world", "world"];

const WITH_INBOUND: &[&str] = &["-i", "*", "-x", "36.152.44.0/24,2001:db8::/48", "-b", "*"];
/// Who answers the world in the pod.
const DIRECT: [&str; 2] = ["app", "app"];

/// Who answers where.
type Answers = Result<[String; 4]>;

/// A command to kill.
struct Victim<'a> {
    args: &'a [&'a str],
    /// Who answers.
    answers: fn(&Scene) -> Answers,
    /// How many of the answers change at once.
    at_once: usize,
    /// Makes the old state, whatever there is.
    prepare: fn(&Scene),
    before: [&'a str; 4],
    after: [&'a str; 4],
    /// What there is besides when it has ended by itself.
    done: fn(&Scene),
    /// What an operator does next, given whether the new state holds.
    next: fn(&Scene, bool),
    /// Who answers then, if not the same as when it has ended.
    then: Option<[&'a str; 4]>,
    /// The layouts that may have a folder then.
    layouts: &'a [u32],
    /// The call after which the steps are those of another victim.
    until: Option<&'a str>,
}

/// One of what the application dials, that changes nothing.
const VICTIM: Victim<'_> = Victim {
    args: &[],
    answers: Scene::answers,
    at_once: 4,
    prepare: old,
    before: UNDER_OLD,
    after: UNDER_OLD,
    done: |_| (),
    next: |_, _| (),
    then: None,
    layouts: &[ABI_VERSION],
    until: None,
};

impl Victim<'_> {
    fn kill_at_every_step(&self, name: &str) -> Tested {
        let scene = Scene::new(name)?;
        let args = if ["uninstall", "upgrade"].contains(&self.args[0]) {
            self.args.to_vec()
        } else {
            scene.about(self.args)
        };
        let argv = scene.ctl.argv(&args);
        let mut last = None;
        for kills in 0.. {
            assert!(kills < ENDLESS, "{name} never comes to an end");
            (self.prepare)(&scene);
            assert_eq!((self.answers)(&scene)?, self.before, "before kill {kills}");
            match kill_after(kills, &argv)? {
                KillResult::Killed(change) => {
                    self.check(&scene, true, &format!("after {kills} changes, at {change}"))?;
                    if self.until.is_some() && last == self.until {
                        break;
                    }
                    last = Some(change.call);
                }
                KillResult::Exited { status, stderr } => {
                    assert_eq!(status, 0, "{stderr}");
                    assert!(kills > 5, "killed only {kills} times");
                    eprintln!("{name}: killed after up to {kills} changes");
                    (self.done)(&scene);
                    self.check(&scene, false, "undisturbed")?;
                    break;
                }
            }
        }
        scene.ctl.ok(&["uninstall", "--yes"]);
        assert_eq!(scene.answers()?, UNDER_NOTHING);
        assert_eq!(scene.arrivals()?, DIRECT);
        assert_eq!(scene.ctl.tree(), Vec::<String>::new());
        Ok(())
    }

    fn check(&self, scene: &Scene, killed: bool, step: &str) -> Tested {
        let seen = (self.answers)(scene)?;
        let parts = seen.chunks(self.at_once);
        let old_and_new = self
            .before
            .chunks(self.at_once)
            .zip(self.after.chunks(self.at_once));
        for (part, (before, after)) in parts.zip(old_and_new) {
            assert!(
                part == after || killed && part == before,
                "{step}: {seen:?}"
            );
        }
        let is_new = seen[..self.at_once] == self.after[..self.at_once];
        // Reading is never confused by what is there.
        scene.ctl.json(&["list"]);
        scene.ctl.json(&["status"]);
        (self.next)(scene, is_new);
        let then = self.then.unwrap_or(self.after);
        assert_eq!((self.answers)(scene)?, then, "after {step}");
        assert_nothing_stale(scene, step)?;
        let known: Vec<_> = self.layouts.iter().map(|abi| version_of(*abi)).collect();
        let mut there = names(scene.ctl.folder())?;
        there.retain(|name| !known.contains(name));
        assert_eq!(there, Vec::<String>::new(), "{step}");
        Ok(())
    }
}

/// No folder without a pod, and no entry of a policy that no pod has.
fn assert_nothing_stale(scene: &Scene, step: &str) -> Tested {
    let folder = scene.ctl.folder();
    let Some(reader) = Reader::open(folder)? else {
        assert_eq!(scene.ctl.tree(), Vec::<String>::new(), "{step}");
        return Ok(());
    };
    let pods = reader.pods()?;
    let used: Vec<_> = pods.iter().map(|pod| pod.row.policy).collect();
    let stored = reader.maps().policies()?;
    assert!(
        stored.iter().all(|policy| used.contains(policy)),
        "{step}: {stored:?}, {used:?}"
    );
    let folders = names(&reader.pins().pods())?;
    assert_eq!(folders.len(), pods.len(), "{step}: {folders:?}");
    let inbound = reader.maps().inbound();
    let wanted = pods.iter().filter(|pod| pod.row.flags.inbound());
    let wanted: Vec<_> = wanted.map(|pod| pod.id).collect();
    let rows: Vec<_> = inbound.pods()?.into_iter().collect();
    assert_eq!(rows, wanted, "{step}");
    // One socket listens, or it is not wanted.
    assert_eq!(inbound.listeners()?, wanted.len(), "{step}");
    // What is another layout's has only answers left.
    assert!(attached_by_others(folder)?.is_empty(), "{step}");
    Ok(())
}

/// What is in a folder; nothing if there is none.
fn names(folder: &Path) -> Result<Vec<String>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(folder)?.flatten();
    Ok(entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect())
}

fn with<'a>(command: &'a str, flags: &[&'a str]) -> Vec<&'a str> {
    [&[command], flags].concat()
}

/// Attached with the old options.
fn old(scene: &Scene) {
    let command = if is_attached(scene) {
        "update"
    } else {
        "attach"
    };
    scene.ok(&with(command, OLD));
}

fn is_attached(scene: &Scene) -> bool {
    let reader = Reader::open(scene.ctl.folder()).unwrap();
    reader.is_some_and(|reader| !reader.pods().unwrap().is_empty())
}

/// Not attached; the programs stay loaded.
fn detached(scene: &Scene) {
    if is_attached(scene) {
        scene.ok(&["detach"]);
    }
}

/// The verifier gives up at a signal, whatever it is; here one comes with every call.
fn attach_goes_on_when_signals_come_in() -> Tested {
    let scene = Scene::new("signals")?;
    let strace = ["strace", "-f", "-qqq", "-o", "/dev/null"];
    let inject = ["-e", "trace=bpf", "-e", "inject=bpf:signal=CHLD"];
    let attach = scene.ctl.argv(&scene.about(&with("attach", WITH_INBOUND)));
    let ran = ctl::run(&[&strace[..], &inject, &attach].concat(), &[], "");
    assert_eq!(ran.status, Some(0), "{ran:?}");
    assert_eq!(both_ways(&scene)?, BOTH_WAYS);
    Ok(())
}

/// More stack than there is address space, so that the kernel starts none.
fn attach_without_another_thread_is_refused() -> Tested {
    let scene = Scene::new("no-thread")?;
    let attach = scene.about(&with("attach", OLD));
    let stack = [("RUST_MIN_STACK", "1000000000000000")];
    let ran = scene.ctl.run_with(&attach, &stack);
    assert_eq!(ran.status, Some(1), "{ran:?}");
    assert!(
        ran.stderr.contains("start a thread") && !ran.stderr.contains("panicked"),
        "{ran:?}"
    );
    assert!(!is_attached(&scene));
    scene.ctl.ok(&attach);
    assert!(is_attached(&scene));
    Ok(())
}

/// Nothing is loaded yet.
fn first_attach_killed_at_any_step() -> Tested {
    Victim {
        args: &with("attach", OLD),
        prepare: |scene| drop(scene.ctl.ok(&["uninstall", "--yes"])),
        before: UNDER_NOTHING,
        next: attach_or_update,
        until: Some("rename"),
        ..VICTIM
    }
    .kill_at_every_step("first-attach")
}

fn attach_or_update(scene: &Scene, is_new: bool) {
    scene.ok(&with(if is_new { "update" } else { "attach" }, OLD));
}

fn attach_killed_at_any_step() -> Tested {
    Victim {
        args: &with("attach", OLD),
        prepare: detached,
        before: UNDER_NOTHING,
        next: attach_or_update,
        ..VICTIM
    }
    .kill_at_every_step("attach")
}

fn update_killed_at_any_step() -> Tested {
    Victim {
        args: &with("update", NEW),
        after: UNDER_NEW,
        next: |scene, _| drop(scene.ok(&with("update", NEW))),
        ..VICTIM
    }
    .kill_at_every_step("update")
}

fn detach_killed_at_any_step() -> Tested {
    Victim {
        args: &["detach"],
        after: UNDER_NOTHING,
        next: |scene, is_new| {
            if is_new {
                scene.ok(&with("attach", NEW));
            }
            scene.ok(&["detach"]);
        },
        ..VICTIM
    }
    .kill_at_every_step("detach")
}

fn cidr_replace_killed_at_any_step() -> Tested {
    Victim {
        args: &[
            "cidr",
            "replace",
            "198.51.100.0/24",
            "2001:db8:1::/48",
            "192.0.2.0/24",
        ],
        after: ["proxy", "proxy", "world", "world"],
        next: |scene, _| {
            scene.ok(&["cidr", "replace", "198.51.100.0/24", "2001:db8:1::/48"]);
        },
        ..VICTIM
    }
    .kill_at_every_step("replace")
}

fn uninstall_killed_at_any_step() -> Tested {
    Victim {
        args: &["uninstall", "--yes"],
        after: UNDER_NOTHING,
        done: |scene| assert_eq!(scene.ctl.tree(), Vec::<String>::new()),
        next: |scene, is_new| {
            if !is_new {
                scene.ctl.ok(&["uninstall", "--yes"]);
            }
            // To load is what takes most of the time: once, also for the next kill.
            old(scene);
        },
        then: Some(UNDER_OLD),
        ..VICTIM
    }
    .kill_at_every_step("uninstall")
}

/// Who answers at the second range, and who answers the world: they change one after the other.
fn both_ways(scene: &Scene) -> Answers {
    let [_, _, near4, near6] = scene.answers()?;
    let [in4, in6] = scene.arrivals()?;
    Ok([near4, near6, in4, in6])
}

const NO_WAY: [&str; 4] = ["world", "world", "app", "app"];
const OUT_ONLY: [&str; 4] = ["proxy", "proxy", "app", "app"];
const BOTH_WAYS: [&str; 4] = ["proxy", "proxy", "inbound", "inbound"];

fn with_inbound(scene: &Scene) {
    let command = if is_attached(scene) {
        "update"
    } else {
        "attach"
    };
    scene.ok(&with(command, WITH_INBOUND));
}

fn attach_with_inbound_killed_at_any_step() -> Tested {
    Victim {
        args: &with("attach", WITH_INBOUND),
        answers: both_ways,
        at_once: 2,
        prepare: detached,
        before: NO_WAY,
        after: BOTH_WAYS,
        next: |scene, is_new| {
            let command = if is_new { "update" } else { "attach" };
            scene.ok(&with(command, WITH_INBOUND));
        },
        ..VICTIM
    }
    .kill_at_every_step("attach-in")
}

/// The next command is about ranges alone, and finishes what it was not told about.
fn update_to_inbound_killed_at_any_step() -> Tested {
    Victim {
        args: &with("update", WITH_INBOUND),
        answers: both_ways,
        at_once: 2,
        before: OUT_ONLY,
        after: BOTH_WAYS,
        next: |scene, _| {
            scene.ok(&["cidr", "replace", "36.152.44.0/24", "2001:db8::/48"]);
            let shown = scene.ctl.json(&scene.about(&["show"]));
            if shown["config"]["inbound"]["include_ports"] != "*" {
                with_inbound(scene);
            }
        },
        ..VICTIM
    }
    .kill_at_every_step("update-in")
}

fn detach_with_inbound_killed_at_any_step() -> Tested {
    Victim {
        args: &["detach"],
        answers: both_ways,
        at_once: 2,
        prepare: with_inbound,
        before: BOTH_WAYS,
        after: NO_WAY,
        next: |scene, is_new| {
            if is_new {
                with_inbound(scene);
            }
            scene.ok(&["detach"]);
        },
        ..VICTIM
    }
    .kill_at_every_step("detach-in")
}

/// The programs are another build's, as far as can be known.
fn of_another_build(scene: &Scene) {
    old(scene);
    let mut maps = Maps::open(&Pins::new(scene.ctl.folder())).unwrap();
    let meta = maps.meta().unwrap();
    let build = meta.build.wrapping_add(1);
    maps.set_meta(Meta { build, ..meta }).unwrap();
}

fn assert_current(scene: &Scene) {
    assert_eq!(scene.ctl.json(&["status"])["current"], true);
}

/// Nobody can tell by connections how far it came.
fn upgrade_killed_at_any_step() -> Tested {
    Victim {
        args: &["upgrade"],
        prepare: of_another_build,
        done: assert_current,
        next: |scene, _| {
            scene.ctl.ok(&["upgrade"]);
            assert_current(scene);
        },
        ..VICTIM
    }
    .kill_at_every_step("upgrade")
}

const OTHER: u32 = ABI_VERSION - 1;

/// Attached by another layout, as far as can be known; this one's programs are loaded.
fn of_another_layout(scene: &Scene) {
    let [this, other] = [ABI_VERSION, OTHER].map(|abi| scene.ctl.folder().join(version_of(abi)));
    old(scene);
    // What the kill before this one has left of it only answers.
    fs::remove_dir_all(&other).unwrap_or_default();
    fs::rename(this, other).unwrap();
    // Loads, and is refused.
    let ran = scene.ctl.run(&["detach", "--cgroup", scene.cgroup()]);
    assert_eq!(ran.status, Some(1), "{ran:?}");
}

fn take_over_killed_at_any_step() -> Tested {
    Victim {
        args: &with("attach", OLD),
        prepare: of_another_layout,
        done: |scene| {
            assert!(attached_by_others(scene.ctl.folder()).unwrap().is_empty());
        },
        next: |scene, _| old(scene),
        layouts: &[ABI_VERSION, OTHER],
        ..VICTIM
    }
    .kill_at_every_step("take-over")
}
