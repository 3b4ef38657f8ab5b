//! Interruptions of the agent: stopped, without its API server, with a jumping clock, with cgroups and
//! processes that come and go. Attachments stay, and the agent catches up.

use std::{collections::BTreeSet, fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, ensure};
use redirect_testkit::{Identity, Pod, WorkerCgroup, cases, wait_until};
use redirect_user::{config::RedirectConfig, node::Reader, sys::cgroup::Cgroup};
use rustix::process::Signal;
use serde_json::json;

use crate::{
    Cases, Needs, Tested,
    kube::{EXCLUDED, KubeNode},
    node::Node,
    scene::{OLD, Scene, proxy_of_round},
};

pub(crate) const CASES: &[Cases] = cases! {
    Needs::Pods => [
        an_agent_that_starts_without_its_api_server_changes_nothing,
        a_cgroup_that_is_made_anew_repeatedly_is_attached_in_the_end,
        an_agent_that_was_stopped_catches_up,
        a_process_in_another_namespace_moves_the_attachment,
    ],
    Needs::Clock => [
        a_jumping_clock_changes_nothing,
    ],
};

/// Why the clock cannot be changed here, if that is so.
pub(crate) fn missing_clock() -> Option<String> {
    let reason = || "needs libfaketime (Debian: faketime)".to_owned();
    faketime_library().is_none().then(reason)
}

fn an_agent_that_starts_without_its_api_server_changes_nothing() -> Tested {
    let kube = KubeNode::new("without")?;
    let shop = Scene::of(Pod::in_kubepods("without", "without-1")?)?;
    kube.put("without-1", &json!({}));
    let agent = kube.start();
    ensure!(shop.reached()? == "old");
    let attached = kube.node.pods();
    kube.server.down();
    kube.put("without-1", &json!({(EXCLUDED): "36.152.44.0/24"}));
    agent.until("the agent notices", || {
        agent.metric("redirect_agent_source_up", &["source=\"kube\""]) == 0
    });
    // An agent that knew the pods is ready; one that starts now cannot know them.
    ensure!(agent.is_ready());
    agent.end(Signal::KILL);
    let agent = kube.start_with(&[]);
    agent.until("the reason is reported", || {
        agent.get("/readyz").contains("source kube: ")
    });
    ensure!(!agent.is_ready() && agent.get("/healthz").starts_with("HTTP/1.1 200"));
    ensure!(agent.metric("redirect_agent_source_up", &["source=\"kube\""]) == 0);
    ensure!(
        agent.metric("redirect_connections_total", &[]) > 0,
        "counting goes on"
    );
    ensure!(shop.reached()? == "old" && kube.node.pods() == attached);
    kube.server.up();
    agent.until("the missed edit", || shop.reaches("world"));
    agent.until("ready", || agent.is_ready());
    Ok(())
}

fn a_cgroup_that_is_made_anew_repeatedly_is_attached_in_the_end() -> Tested {
    let kube = KubeNode::new("anew")?;
    // The kubelet's class directories stay; the pod's own comes and goes, as during a restart of a kubelet.
    let keep = Scene::of(Pod::in_kubepods("anew-keep", "anew-keep")?)?;
    kube.put("anew-keep", &json!({}));
    let besteffort = keep.pod.cgroup().path().parent().unwrap().to_owned();
    kube.put("anew-1", &json!({}));
    let agent = kube.start();
    let folder = besteffort.join("podanew-1");
    let mut last = 0;
    for round in 0..30 {
        fs::create_dir(&folder)?;
        let id = Cgroup::open(&folder)?.id();
        ensure!(id != last, "round {round}: the kernel has used an id again");
        last = id;
        let root = Identity::root().cgroup(WorkerCgroup::Folder(folder.clone()));
        let process = keep.pod.world().worker(&root)?;
        if round % 3 == 0 {
            agent.until("attached", || {
                kube.node.pods().iter().any(|pod| pod.id == id)
            });
        }
        drop(process);
        ensure!(
            wait_until(Duration::from_secs(10), || fs::remove_dir(&folder).is_ok()),
            "the cgroup cannot be removed"
        );
    }
    agent.until("collected", || kube.node.pods().len() == 1);
    ensure!(keep.reached()? == "old");
    ensure!(agent.metric("redirect_agent_reconcile_errors_total", &[]) == 0);
    Ok(())
}

fn an_agent_that_was_stopped_catches_up() -> Tested {
    let (node, shop, cart) = (
        Node::new("stopped"),
        Scene::new("stopped")?,
        Scene::new("stopped-cart")?,
    );
    node.describe("shop", &shop.description(OLD, ""));
    let agent = node.start();
    for round in 0..10 {
        agent.signal(Signal::STOP);
        let (port, name) = proxy_of_round(round);
        let before = if round % 2 == 0 { "old" } else { "new" };
        node.describe("shop", &shop.description(port, ""));
        if round == 4 {
            node.describe("cart", &cart.description(OLD, ""));
        }
        ensure!(shop.reached()? == before, "the agent is stopped");
        agent.signal(Signal::CONT);
        agent.until("the missed edit", || shop.reaches(name));
    }
    agent.until("the new workload", || cart.reaches("old"));
    ensure!(agent.get("/healthz").starts_with("HTTP/1.1 200") && agent.is_ready());
    // Stopped in the middle of a pass: others wait for the lock, and no step is half done.
    let mut range = String::new();
    for round in 0..10 {
        let before = node.pods();
        range = format!("10.{round}.0.0/16");
        let (port, _) = proxy_of_round(round);
        node.describe("shop", &shop.description(port, &format!(", -x, {range}")));
        agent.until("a pass is under way", || node.pods() != before);
        agent.signal(Signal::STOP);
        ensure!(["old", "new"].contains(&shop.reached()?.as_str()));
        agent.signal(Signal::CONT);
    }
    let reader = Reader::open(node.state_dir())?.context("nothing is attached")?;
    let is_last =
        |config: &RedirectConfig| config.exclude.iter().map(ToString::to_string).eq([&*range]);
    agent.until("the last edit", || {
        let configs = reader.pods().and_then(|pods| reader.configs(&pods));
        configs.is_ok_and(|configs| configs.iter().any(is_last))
    });
    agent.until("no leftovers", || {
        reader.has_leftovers().is_ok_and(|has| !has)
    });
    ensure!(shop.reached()? == "old" && cart.reached()? == "old");
    Ok(())
}

fn a_process_in_another_namespace_moves_the_attachment() -> Tested {
    let (node, shop, other) = (
        Node::new("elsewhere"),
        Scene::new("elsewhere")?,
        Pod::new("elsewhere-too")?,
    );
    node.describe("shop", &shop.description(OLD, ""));
    let agent = node.start();
    ensure!(shop.reached()? == "old");
    let before = node.pods()[0].row.netns;
    // The processes of the pod end, and others come in another network namespace, as with a new sandbox.
    let pod = shop.into_pod();
    let app = WorkerCgroup::Folder(pod.cgroup().app());
    let _process = other.worker(&Identity::root().cgroup(app))?;
    agent.until("moved", || {
        node.pods().iter().any(|pod| pod.row.netns != before)
    });
    agent.until("counted", || {
        agent.metric("redirect_agent_actions_total", &["move", "ok"]) == 1
    });
    Ok(())
}

/// Path of Debian's library for a false clock.
fn faketime_library() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").ok()?.flatten();
    let files = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    files.into_iter().find(|file| file.exists())
}

fn a_jumping_clock_changes_nothing() -> Tested {
    let library = faketime_library().context("find libfaketime")?;
    let (node, shop, cart) = (
        Node::new("clock"),
        Scene::new("clock")?,
        Scene::new("clock-cart")?,
    );
    let to = |port| shop.description(port, ", -b, '*'");
    node.describe("shop", &to(OLD));
    let clock = node.file("clock").with_extension("txt");
    let set = |offset: &str| fs::write(&clock, offset);
    set("+0d")?;
    let variables = [
        format!("LD_PRELOAD={}", library.display()),
        format!("FAKETIME_TIMESTAMP_FILE={}", clock.display()),
        "FAKETIME_NO_CACHE=1".to_owned(),
        // The monotonic clock of a kernel does not jump.
        "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
        "DONT_FAKE_MONOTONIC=1".to_owned(),
    ];
    let mut by = vec!["env"];
    by.extend(variables.iter().map(String::as_str));
    let agent = node.start_by(&by, &[]);
    agent.until_ready();
    ensure!(shop.reached()? == "old");
    // The shop's network namespace has an inbound policy already, so the attempts for this one keep failing.
    let netns = shop.pod.namespace();
    let text = cart.description(OLD, ", -b, '*'");
    node.describe("cart", &format!("{text}netns: {}\n", netns.display()));
    let failures = || agent.metric("redirect_agent_actions_total", &["attach", "error"]);
    agent.until("it fails", || failures() > 0);
    let mut years = BTreeSet::new();
    for (round, offset) in ["+4000d", "-1000d", "+0d", "-10000d", "+4000d"]
        .into_iter()
        .enumerate()
    {
        let (port, name) = proxy_of_round(round);
        set(offset)?;
        node.describe("shop", &to(port));
        agent.until("an edit", || shop.reaches(name));
        if offset.starts_with('-') {
            let before = failures();
            agent.until("another attempt", || failures() > before);
        }
        ensure!(agent.is_ready() && agent.get("/healthz").starts_with("HTTP/1.1 200"));
        let updated = || {
            let log = agent.log();
            let lines = log.lines().filter(|line| line.contains("\"updated\""));
            let years = lines
                .filter_map(|line| Some(line.split_once("timestamp\":\"")?.1.get(..4)?.to_owned()));
            years.collect::<Vec<_>>()
        };
        agent.until("logged", || updated().len() == round + 1);
        years.extend(updated());
    }
    ensure!(years.len() == 4, "its clock did not jump: {years:?}");
    ensure!(agent.end(Signal::TERM) == Some(0));
    Ok(())
}
