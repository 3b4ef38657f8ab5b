//! A command that is killed at any step leaves the old state or the new one, and the next command succeeds from there.
//!
//! The real program is killed after its first change of the kernel's state, in the next run after its second change,
//! and so on, until it ends by itself.

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
        // The longest tests come first.
        a_killed_uninstall_leaves_the_old_or_the_new_state,
        a_killed_take_over_leaves_the_old_or_the_new_state,
        a_killed_upgrade_leaves_the_old_or_the_new_state,
        attach_without_another_thread_is_refused,
        a_killed_first_attach_leaves_the_old_or_the_new_state,
        a_killed_attach_leaves_the_old_or_the_new_state,
        a_killed_update_leaves_the_old_or_the_new_state,
        a_killed_detach_leaves_the_old_or_the_new_state,
        a_killed_cidr_replace_leaves_the_old_or_the_new_state,
        a_killed_attach_with_inbound_leaves_the_old_or_the_new_state,
        a_killed_update_to_inbound_leaves_the_old_or_the_new_state,
        a_killed_detach_with_inbound_leaves_the_old_or_the_new_state,
    ],
    PodsAnd(&["strace"]) => [attach_continues_when_signals_arrive],
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
/// The servers that answer at the two services, by IPv4 and IPv6 each.
const UNDER_NOTHING: [&str; 4] = ["world", "world", "world", "world"];
const UNDER_OLD: [&str; 4] = ["world", "world", "proxy", "proxy"];
const UNDER_NEW: [&str; 4] = ["other", "other", "world", "world"];

const WITH_INBOUND: &[&str] = &["-i", "*", "-x", "36.152.44.0/24,2001:db8::/48", "-b", "*"];
/// The servers that answer the world in the pod.
const DIRECT: [&str; 2] = ["app", "app"];

/// The names of the servers that answer.
type Answers = Result<[String; 4]>;

/// A command that is killed.
struct KilledCommand<'a> {
    args: &'a [&'a str],
    /// Asks the servers.
    answers: fn(&Scene) -> Answers,
    /// The number of answers that change at once.
    at_once: usize,
    /// Makes the old state from any state.
    prepare: fn(&Scene),
    before: [&'a str; 4],
    after: [&'a str; 4],
    /// Checks the state after the command has ended by itself.
    done: fn(&Scene),
    /// Runs the operator's next command, given whether the new state holds.
    next: fn(&Scene, bool),
    /// The answers after the next command, if they are not `after`.
    then: Option<[&'a str; 4]>,
    /// The layouts that may have a folder after the next command.
    layouts: &'a [u32],
    /// The call after which the steps are those of another killed command.
    until: Option<&'a str>,
}

/// A command that changes nothing, checked by the application's connections.
const DEFAULTS: KilledCommand<'_> = KilledCommand {
    args: &[],
    answers: Scene::answers,
    at_once: 4,
    prepare: attach_with_old_options,
    before: UNDER_OLD,
    after: UNDER_OLD,
    done: |_| (),
    next: |_, _| (),
    then: None,
    layouts: &[ABI_VERSION],
    until: None,
};

impl KilledCommand<'_> {
    fn kill_at_every_step(&self, name: &str) -> Tested {
        let scene = Scene::new(name)?;
        let args = if ["uninstall", "upgrade"].contains(&self.args[0]) {
            self.args.to_vec()
        } else {
            scene.with_cgroup(self.args)
        };
        let argv = scene.ctl.argv(&args);
        let mut last = None;
        for kills in 0.. {
            assert!(kills < ENDLESS, "{name} does not end");
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
        assert_eq!(scene.inbound_answers()?, DIRECT);
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
        // Commands that read succeed on any state.
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

/// Asserts that there is no folder without a pod, and no entry of a policy that no pod has.
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
    // There is one listening socket for each pod with inbound redirection.
    assert_eq!(inbound.listeners()?, wanted.len(), "{step}");
    // The programs of other layouts that still run only answer; they redirect nothing.
    assert!(attached_by_others(folder)?.is_empty(), "{step}");
    Ok(())
}

/// The names in a folder; none if it does not exist.
fn names(folder: &Path) -> Result<Vec<String>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(folder)?.flatten();
    Ok(entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect())
}

fn command_with<'a>(command: &'a str, flags: &[&'a str]) -> Vec<&'a str> {
    [&[command], flags].concat()
}

fn attach_with_old_options(scene: &Scene) {
    let command = if is_attached(scene) {
        "update"
    } else {
        "attach"
    };
    scene.ok(&command_with(command, OLD));
}

fn is_attached(scene: &Scene) -> bool {
    let reader = Reader::open(scene.ctl.folder()).unwrap();
    reader.is_some_and(|reader| !reader.pods().unwrap().is_empty())
}

/// Detaches the pod; the programs stay loaded.
fn detach_if_attached(scene: &Scene) {
    if is_attached(scene) {
        scene.ok(&["detach"]);
    }
}

/// The verifier gives up at any signal; here a signal arrives at every call.
fn attach_continues_when_signals_arrive() -> Tested {
    let scene = Scene::new("signals")?;
    let strace = ["strace", "-f", "-qqq", "-o", "/dev/null"];
    let inject = ["-e", "trace=bpf", "-e", "inject=bpf:signal=CHLD"];
    let attach = scene
        .ctl
        .argv(&scene.with_cgroup(&command_with("attach", WITH_INBOUND)));
    let ran = ctl::run(&[&strace[..], &inject, &attach].concat(), &[], "");
    assert_eq!(ran.status, Some(0), "{ran:?}");
    assert_eq!(outbound_and_inbound_answers(&scene)?, BOTH_WAYS);
    Ok(())
}

/// The stack is larger than the address space, so that the kernel starts no thread.
fn attach_without_another_thread_is_refused() -> Tested {
    let scene = Scene::new("no-thread")?;
    let attach = scene.with_cgroup(&command_with("attach", OLD));
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

/// No program is loaded before.
fn a_killed_first_attach_leaves_the_old_or_the_new_state() -> Tested {
    KilledCommand {
        args: &command_with("attach", OLD),
        prepare: |scene| drop(scene.ctl.ok(&["uninstall", "--yes"])),
        before: UNDER_NOTHING,
        next: attach_or_update,
        until: Some("rename"),
        ..DEFAULTS
    }
    .kill_at_every_step("first-attach")
}

fn attach_or_update(scene: &Scene, is_new: bool) {
    scene.ok(&command_with(if is_new { "update" } else { "attach" }, OLD));
}

fn a_killed_attach_leaves_the_old_or_the_new_state() -> Tested {
    KilledCommand {
        args: &command_with("attach", OLD),
        prepare: detach_if_attached,
        before: UNDER_NOTHING,
        next: attach_or_update,
        ..DEFAULTS
    }
    .kill_at_every_step("attach")
}

fn a_killed_update_leaves_the_old_or_the_new_state() -> Tested {
    KilledCommand {
        args: &command_with("update", NEW),
        after: UNDER_NEW,
        next: |scene, _| drop(scene.ok(&command_with("update", NEW))),
        ..DEFAULTS
    }
    .kill_at_every_step("update")
}

fn a_killed_detach_leaves_the_old_or_the_new_state() -> Tested {
    KilledCommand {
        args: &["detach"],
        after: UNDER_NOTHING,
        next: |scene, is_new| {
            if is_new {
                scene.ok(&command_with("attach", NEW));
            }
            scene.ok(&["detach"]);
        },
        ..DEFAULTS
    }
    .kill_at_every_step("detach")
}

fn a_killed_cidr_replace_leaves_the_old_or_the_new_state() -> Tested {
    KilledCommand {
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
        ..DEFAULTS
    }
    .kill_at_every_step("replace")
}

fn a_killed_uninstall_leaves_the_old_or_the_new_state() -> Tested {
    KilledCommand {
        args: &["uninstall", "--yes"],
        after: UNDER_NOTHING,
        done: |scene| assert_eq!(scene.ctl.tree(), Vec::<String>::new()),
        next: |scene, is_new| {
            if !is_new {
                scene.ctl.ok(&["uninstall", "--yes"]);
            }
            // Loading takes most of the time, so it is done once, also for the next kill.
            attach_with_old_options(scene);
        },
        then: Some(UNDER_OLD),
        ..DEFAULTS
    }
    .kill_at_every_step("uninstall")
}

/// The servers that answer at the second service, and those that answer the world. They change one after the other.
fn outbound_and_inbound_answers(scene: &Scene) -> Answers {
    let [_, _, second4, second6] = scene.answers()?;
    let [in4, in6] = scene.inbound_answers()?;
    Ok([second4, second6, in4, in6])
}

const NEITHER_WAY: [&str; 4] = ["world", "world", "app", "app"];
const OUT_ONLY: [&str; 4] = ["proxy", "proxy", "app", "app"];
const BOTH_WAYS: [&str; 4] = ["proxy", "proxy", "inbound", "inbound"];

fn attach_with_inbound(scene: &Scene) {
    let command = if is_attached(scene) {
        "update"
    } else {
        "attach"
    };
    scene.ok(&command_with(command, WITH_INBOUND));
}

fn a_killed_attach_with_inbound_leaves_the_old_or_the_new_state() -> Tested {
    KilledCommand {
        args: &command_with("attach", WITH_INBOUND),
        answers: outbound_and_inbound_answers,
        at_once: 2,
        prepare: detach_if_attached,
        before: NEITHER_WAY,
        after: BOTH_WAYS,
        next: |scene, is_new| {
            let command = if is_new { "update" } else { "attach" };
            scene.ok(&command_with(command, WITH_INBOUND));
        },
        ..DEFAULTS
    }
    .kill_at_every_step("attach-in")
}

/// The next command changes only ranges, and also finishes the interrupted change of inbound redirection.
fn a_killed_update_to_inbound_leaves_the_old_or_the_new_state() -> Tested {
    KilledCommand {
        args: &command_with("update", WITH_INBOUND),
        answers: outbound_and_inbound_answers,
        at_once: 2,
        before: OUT_ONLY,
        after: BOTH_WAYS,
        next: |scene, _| {
            scene.ok(&["cidr", "replace", "36.152.44.0/24", "2001:db8::/48"]);
            let shown = scene.ctl.json(&scene.with_cgroup(&["show"]));
            if shown["config"]["inbound"]["include_ports"] != "*" {
                attach_with_inbound(scene);
            }
        },
        ..DEFAULTS
    }
    .kill_at_every_step("update-in")
}

fn a_killed_detach_with_inbound_leaves_the_old_or_the_new_state() -> Tested {
    KilledCommand {
        args: &["detach"],
        answers: outbound_and_inbound_answers,
        at_once: 2,
        prepare: attach_with_inbound,
        before: BOTH_WAYS,
        after: NEITHER_WAY,
        next: |scene, is_new| {
            if is_new {
                attach_with_inbound(scene);
            }
            scene.ok(&["detach"]);
        },
        ..DEFAULTS
    }
    .kill_at_every_step("detach-in")
}

/// Marks the loaded programs as those of another build.
fn pretend_another_build(scene: &Scene) {
    attach_with_old_options(scene);
    let mut maps = Maps::open(&Pins::new(scene.ctl.folder())).unwrap();
    let meta = maps.meta().unwrap();
    let build = meta.build.wrapping_add(1);
    maps.set_meta(Meta { build, ..meta }).unwrap();
}

fn assert_current(scene: &Scene) {
    assert_eq!(scene.ctl.json(&["status"])["current"], true);
}

/// Connections do not show the progress of an upgrade.
fn a_killed_upgrade_leaves_the_old_or_the_new_state() -> Tested {
    KilledCommand {
        args: &["upgrade"],
        prepare: pretend_another_build,
        done: assert_current,
        next: |scene, _| {
            scene.ctl.ok(&["upgrade"]);
            assert_current(scene);
        },
        ..DEFAULTS
    }
    .kill_at_every_step("upgrade")
}

const OTHER: u32 = ABI_VERSION - 1;

/// Marks the attached programs as those of another layout. The programs of this layout are loaded.
fn pretend_another_layout(scene: &Scene) {
    let [this, other] = [ABI_VERSION, OTHER].map(|abi| scene.ctl.folder().join(version_of(abi)));
    attach_with_old_options(scene);
    // After the last kill, the programs of the other layout only answer.
    fs::remove_dir_all(&other).unwrap_or_default();
    fs::rename(this, other).unwrap();
    // The command loads the programs, and is refused.
    let ran = scene.ctl.run(&["detach", "--cgroup", scene.cgroup()]);
    assert_eq!(ran.status, Some(1), "{ran:?}");
}

fn a_killed_take_over_leaves_the_old_or_the_new_state() -> Tested {
    KilledCommand {
        args: &command_with("attach", OLD),
        prepare: pretend_another_layout,
        done: |scene| {
            assert!(attached_by_others(scene.ctl.folder()).unwrap().is_empty());
        },
        next: |scene, _| attach_with_old_options(scene),
        layouts: &[ABI_VERSION, OTHER],
        ..DEFAULTS
    }
    .kill_at_every_step("take-over")
}
