//! Workloads that files describe.

use std::fs;

use anyhow::ensure;
use redirect_testkit::cases;
use rustix::process::Signal;

use crate::{
    Cases, Needs, Tested,
    node::Node,
    scene::{NEW, OLD, Scene},
};

pub(crate) const CASES: &[Cases] = cases! {
    Needs::Pods => [
        two_workloads_reach_the_proxies_that_their_files_name,
        a_bad_file_changes_nothing_and_is_counted,
        two_files_for_one_cgroup_are_refused_by_name,
        a_cgroup_that_comes_late_and_comes_back_is_attached,
        a_folder_that_is_gone_detaches_nothing,
        a_workload_moves_to_another_network_namespace,
    ],
};

fn two_workloads_reach_the_proxies_that_their_files_name() -> Tested {
    let (node, shop, cart) = (Node::new("two"), Scene::new("shop")?, Scene::new("cart")?);
    node.describe("shop", &shop.description(OLD, ""));
    node.describe("cart", &cart.description(NEW, ""));
    let agent = node.start();
    ensure!((shop.reached()?, cart.reached()?) == ("old".into(), "new".into()));
    let redirected = |workload: &str| {
        let labels = [
            workload,
            "rule=\"any-included\"",
            "verdict=\"out\"",
            "source=\"file\"",
        ];
        agent.metric("redirect_connections_total", &labels)
    };
    ensure!(
        (
            redirected("workload=\"shop\""),
            redirected("workload=\"cart\"")
        ) == (1, 1)
    );
    ensure!(agent.metric("redirect_agent_workloads", &["state=\"attached\""]) == 2);
    ensure!(agent.metric("redirect_agent_actions_total", &["attach", "ok"]) == 2);
    ensure!(agent.metric("redirect_map_capacity", &["FLOWS"]) > 0);
    ensure!(agent.metric("redirect_map_entries", &["LOCALS"]) > 0);
    ensure!(agent.metric("redirect_agent_maps_readable", &[]) == 1);

    node.forget("cart");
    agent.until("detached", || cart.reaches("world"));
    ensure!(shop.reached()? == "old");
    ensure!(agent.end(Signal::TERM) == Some(0));
    ensure!(shop.reached()? == "old", "attachments stay");
    let ran = node.run(&["cleanup"]);
    ensure!(
        ran.status == Some(0) && ran.stdout.starts_with("detached 1 cgroup, "),
        "{ran:?}"
    );
    ensure!(shop.reached()? == "world");
    ensure!(node.leftovers().is_empty(), "{:?}", node.leftovers());
    Ok(())
}

fn a_bad_file_changes_nothing_and_is_counted() -> Tested {
    let (node, shop) = (Node::new("bad"), Scene::new("bad")?);
    node.describe("shop", &shop.description(OLD, ""));
    let agent = node.start();
    ensure!(shop.reached()? == "old");
    let before = node.pods();
    for (bad, words) in [
        (shop.description(NEW, ", -x, 10.0.0.0/33"), "10.0.0.0/33"),
        ("cgroup: [".to_owned(), "line 1 column"),
        (
            "cgroup: /sys/fs/cgroup\nargs: [-i]".to_owned(),
            "a value is required",
        ),
    ] {
        node.describe("shop", &bad);
        agent.until("refused", || agent.log().contains(words));
        agent.until("counted", || {
            agent.metric("redirect_agent_workload_error", &["workload=\"shop\""]) == 1
                && agent.metric("redirect_agent_workloads", &["state=\"refused\""]) == 1
        });
        ensure!(shop.reached()? == "old" && node.pods() == before, "{bad}");
    }
    // An agent that starts with an unreadable file does not know which cgroup it is about.
    ensure!(agent.end(Signal::KILL).is_none());
    node.describe("shop", "cgroup: [");
    let agent = node.start();
    ensure!(shop.reached()? == "old" && node.pods() == before);
    node.describe("shop", &shop.description(NEW, ""));
    agent.until("updated", || shop.reaches("new"));
    agent.until("no longer counted", || {
        agent.metric("redirect_agent_workload_error", &[]) == 0
    });
    Ok(())
}

fn two_files_for_one_cgroup_are_refused_by_name() -> Tested {
    let (node, shop) = (Node::new("twice"), Scene::new("twice")?);
    node.describe("one", &shop.description(OLD, ""));
    let agent = node.start();
    ensure!(shop.reached()? == "old");
    node.describe("two", &shop.description(NEW, ""));
    agent.until("refused", || {
        let log = agent.log();
        log.contains("is also named by file/two.yaml")
            && log.contains("is also named by file/one.yaml")
    });
    ensure!(shop.reached()? == "old");
    node.forget("one");
    agent.until("the other file applies", || shop.reaches("new"));
    Ok(())
}

fn a_cgroup_that_comes_late_and_comes_back_is_attached() -> Tested {
    let (node, shop) = (Node::new("late"), Scene::new("late")?);
    let path = shop.pod.cgroup().path().join("later");
    let netns = shop.pod.namespace();
    let text = format!(
        "cgroup: {}\nnetns: {}\nargs: [-i, '*']\n",
        path.display(),
        netns.display()
    );
    node.describe("shop", &text);
    let agent = node.start();
    ensure!(agent.metric("redirect_agent_workloads", &["state=\"waiting\""]) == 1);
    for _ in 0..2 {
        fs::create_dir(&path)?;
        agent.until("attached", || node.pods().len() == 1);
        let identity = redirect_testkit::Identity::app()
            .cgroup(redirect_testkit::WorkerCgroup::Folder(path.clone()));
        let app = shop.pod.worker(&identity)?;
        let dialled = app.dial(&redirect_testkit::Dial::to(crate::scene::far()))?;
        ensure!(dialled.server() == Some("old"), "{dialled:?}");
        drop(app);
        agent.until("removed", || fs::remove_dir(&path).is_ok());
        agent.until("waiting", || {
            agent.metric("redirect_agent_workloads", &["state=\"waiting\""]) == 1
        });
        agent.until("collected", || node.pods().is_empty());
    }
    Ok(())
}

fn a_folder_that_is_gone_detaches_nothing() -> Tested {
    let (node, shop) = (Node::new("gone"), Scene::new("gone")?);
    node.describe("shop", &shop.description(OLD, ""));
    let agent = node.start();
    let aside = node.folder().with_extension("aside");
    fs::rename(node.folder(), &aside)?;
    agent.until("noticed", || {
        agent.metric("redirect_agent_source_up", &[]) == 0
    });
    ensure!(shop.reached()? == "old");
    ensure!(agent.end(Signal::KILL).is_none());
    // An agent that has never seen the folder detaches nothing either, but is not ready.
    let agent = node.start_with(&[]);
    agent.until("the reason is reported", || {
        agent.get("/readyz").contains("source file: list")
    });
    ensure!(shop.reached()? == "old");
    fs::rename(&aside, node.folder())?;
    agent.until_ready();
    ensure!(shop.reached()? == "old");
    ensure!(agent.metric("redirect_agent_source_up", &[]) == 1);
    Ok(())
}

fn a_workload_moves_to_another_network_namespace() -> Tested {
    let (node, shop, other) = (
        Node::new("move"),
        Scene::new("move")?,
        Scene::new("elsewhere")?,
    );
    let there = format!(
        "cgroup: {}\nnetns: {}\nargs: [-i, '*']\n",
        shop.pod.cgroup().path().display(),
        other.pod.namespace().display()
    );
    node.describe("shop", &there);
    let agent = node.start();
    ensure!(
        shop.reached()? == "world",
        "its own namespace is not the one"
    );
    node.describe("shop", &shop.description(OLD, ""));
    agent.until("moved", || shop.reaches("old"));
    agent.until("counted", || {
        agent.metric("redirect_agent_actions_total", &["move", "ok"]) == 1
    });
    Ok(())
}
