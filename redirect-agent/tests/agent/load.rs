//! Changes of files and agents under load: no connection is lost or misdirected.

use std::sync::atomic::AtomicBool;

use anyhow::{Result, ensure};
use redirect_testkit::{Dial, Flood, FloodReport, Identity, Worker, cases, with_background};
use rustix::process::Signal;

use crate::{
    Cases, Needs, Tested,
    node::Node,
    scene::{NEW, OLD, Scene, far, proxy_of_round},
};

pub(crate) const CASES: &[Cases] = cases! {
    Needs::Pods => [
        workloads_that_come_and_go_under_load_lose_no_connection,
        edits_under_load_lose_no_connection,
        agents_killed_under_load_lose_no_connection,
    ],
};

pub(crate) const SOAKS: &[Cases] = cases! {
    Needs::Pods => [
        soak_kills_lose_no_connection,
    ],
};

const EDITS: usize = 12;
const GOES: usize = 6;
const KILLS: usize = 20;

/// Dials in each pod without a pause while `act` runs.
pub(crate) fn under_load(scenes: &[Scene], act: impl FnOnce() -> Tested) -> Result<FloodReport> {
    // Either proxy may answer; it must know the right destination.
    let flood = &Flood {
        server: None,
        ..Flood::new("", [far()], 500).concurrency(2)
    };
    let floods = scenes
        .iter()
        .map(|scene| |is_over: &AtomicBool| scene.app.flood_until(flood, is_over));
    let ((), floods) = with_background(floods, act)?;
    let mut total = FloodReport::default();
    for flooded in floods {
        total.add(flooded);
    }
    Ok(total)
}

/// Whether a process reaches this server.
fn is_answered_by(dialer: &Worker, name: &str) -> bool {
    let dialled = dialer.dial(&Dial::to(far()));
    dialled.is_ok_and(|dialled| dialled.server() == Some(name))
}

fn edits_under_load_lose_no_connection() -> Tested {
    let (node, scenes) = (Node::new("edit"), [Scene::new("edit")?]);
    let [shop] = &scenes;
    node.describe("shop", &shop.description(OLD, ""));
    let agent = node.start();
    // The flood uses the application's process.
    let dialer = shop.pod.worker(&Identity::app())?;
    let answers = |name| is_answered_by(&dialer, name);
    let flooded = under_load(&scenes, || {
        for round in 0..EDITS {
            let (port, name) = proxy_of_round(round);
            let text = shop.description(port, &format!(", -x, 10.{round}.0.0/16"));
            if round % 3 == 0 {
                // The file is rewritten in place and in pieces.
                let (head, tail) = text.split_at(text.len() / 2);
                let mut file = std::fs::File::create(node.file("shop"))?;
                std::io::Write::write_all(&mut file, head.as_bytes())?;
                std::io::Write::write_all(&mut file, tail.as_bytes())?;
            } else {
                node.describe("shop", &text);
            }
            agent.until("switched", || answers(name));
        }
        Ok(())
    })?;
    flooded.all_answered(&["old", "new"], &[])?;
    // Each edit is one update, counted when its pass has ended.
    agent.until("counted", || {
        agent.metric("redirect_agent_actions_total", &["update", "ok"]) == EDITS as u64
    });
    ensure!(agent.metric("redirect_original_destination_lost_total", &[]) == 0);
    Ok(())
}

fn workloads_that_come_and_go_under_load_lose_no_connection() -> Tested {
    // Two of the policies are equal.
    let more = ["", "", ", -x, 10.9.0.0/16"];
    let scenes: Result<Vec<_>> = (0..more.len())
        .map(|pod| Scene::new(&format!("go-{pod}")))
        .collect();
    let (node, scenes) = (Node::new("go"), scenes?);
    let describe = || {
        for (pod, scene) in scenes.iter().enumerate() {
            node.describe(&pod.to_string(), &scene.description(OLD, more[pod]));
        }
    };
    describe();
    let agent = node.start();
    let dialers: Result<Vec<_>> = scenes
        .iter()
        .map(|scene| scene.pod.worker(&Identity::app()))
        .collect();
    let dialers = dialers?;
    let answers = |name| dialers.iter().all(|dialer| is_answered_by(dialer, name));
    let flooded = under_load(&scenes, || {
        for _ in 0..GOES {
            // The agent learns of all removals together.
            agent.signal(Signal::STOP);
            for pod in 0..scenes.len() {
                node.forget(&pod.to_string());
            }
            agent.signal(Signal::CONT);
            agent.until("gone", || answers("world"));
            describe();
            agent.until("back", || answers("old"));
        }
        Ok(())
    })?;
    // The world reports no original destination.
    flooded.all_answered(&["old"], &["world"])?;
    ensure!(agent.metric("redirect_original_destination_lost_total", &[]) == 0);
    Ok(())
}

fn agents_killed_under_load_lose_no_connection() -> Tested {
    let scenes = [Scene::new("kill")?];
    killed(&Node::new("kill"), &scenes, KILLS).map(drop)
}

/// As many kills as in the life of an agent, on a busy node.
#[expect(clippy::print_stderr, reason = "a long test says how it went")]
fn soak_kills_lose_no_connection() -> Tested {
    let scenes: Result<Vec<_>> = (0..4)
        .map(|pod| Scene::new(&format!("kills-{pod}")))
        .collect();
    let kills = 50;
    let flooded = killed(&Node::new("kills"), &scenes?, kills)?;
    eprintln!("{kills} kills, {} connections, all right", flooded.right);
    Ok(())
}

/// Kills agents while every pod dials, with steps to execute at once and later.
fn killed(node: &Node, scenes: &[Scene], kills: usize) -> Result<FloodReport> {
    let describe = |port, more: &str| {
        for (pod, scene) in scenes.iter().enumerate() {
            node.describe(&pod.to_string(), &scene.description(port, more));
        }
    };
    describe(OLD, "");
    drop(node.start());
    let flooded = under_load(scenes, || {
        for round in 0..kills {
            let (port, _) = proxy_of_round(round);
            let before = node.pods();
            describe(port, &format!(", -x, 10.{round}.0.0/16"));
            let agent = node.start_with(&[]);
            match round % 4 {
                // At its first log line.
                0 => agent.until("the first log line", || !agent.log().is_empty()),
                // In the middle of an update, or shortly before or after.
                1 => agent.until("it updates", || node.pods() != before),
                2 => agent.until_ready(),
                _ => {
                    agent.until_ready();
                    describe(NEW, &format!(", -x, 11.{round}.0.0/16"));
                }
            }
            ensure!(agent.end(Signal::KILL).is_none(), "it ended by itself");
        }
        Ok(())
    })?;
    flooded.all_answered(&["old", "new"], &[])?;
    describe(NEW, "");
    let agent = node.start();
    for scene in scenes {
        ensure!(scene.reached()? == "new");
    }
    ensure!(node.pods().len() == scenes.len());
    ensure!(agent.metric("redirect_original_destination_lost_total", &[]) == 0);
    ensure!(agent.metric("redirect_record_failed_total", &[]) == 0);
    Ok(flooded)
}
