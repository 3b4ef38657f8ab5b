//! The agent and its plugin on a node with a real container runtime, real sidecars and applications that dial at
//! their first instruction: no connection escapes, none is lost, and each is counted by everybody who sees it.
//!
//! Without the programs the same applications come to the world by themselves: the first test sees that.

mod mesh;
mod shop;

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, ensure};
use redirect_testkit::{Answer, Envoy, Hold, node::Node, wait_until};
use rustix::process::Signal;
use serde_json::json;

use self::{
    mesh::{FAR, LATE, Mesh, far},
    shop::{Account, Shop, first, under_load},
};
use crate::{Test, Tested, kube::EXCLUDED};

pub(crate) const TESTS: &[Test] = &[
    (
        "a_pod_from_its_first_instruction_to_its_last",
        a_pod_from_its_first_instruction_to_its_last,
    ),
    ("pods_come_and_go", pods_come_and_go),
    (
        "annotations_and_agents_change_under_load",
        annotations_and_agents_change_under_load,
    ),
    ("uninstalled_under_load", uninstalled_under_load),
];

/// The same in earnest: see `cargo xtask soak`.
pub(crate) const SOAKS: &[Test] = &[
    (
        "soak_pods_a_hundred_come_and_go",
        soak_pods_a_hundred_come_and_go,
    ),
    (
        "soak_pods_agents_are_killed_fifty_times",
        soak_pods_agents_are_killed_fifty_times,
    ),
];

/// Longer than anything takes.
const LONG: Duration = Duration::from_mins(1);

/// Why there can be none of this; none if there can.
pub(crate) fn missing() -> Option<String> {
    let envoy = || Envoy::binary().err().map(|error| format!("{error:#}"));
    Node::missing().or_else(envoy)
}

fn a_pod_from_its_first_instruction_to_its_last() -> Tested {
    let mesh = Mesh::new("first")?;
    // Nobody redirects yet, and it escapes.
    mesh.put("bare", &json!({}));
    let bare = mesh.run("bare")?;
    let (_, dialled) = bare.app("app", &first())?;
    let greeting = dialled.greeting().ok_or_else(|| anyhow!("{dialled:?}"))?;
    ensure!(greeting.orig_dst.is_none() && mesh.accepted(FAR)?.direct() == 1);
    bare.remove()?;
    mesh.delete("bare");

    let agent = mesh.guarded()?;
    let mut shop = Shop::open(&mesh, "first-1")?;
    ensure!(shop.dial()?.proxied == 1);
    shop.audit()?;
    let netns = format!("/proc/{}/ns/net", shop.app.pid());
    for _ in 0..2 {
        ensure!(mesh.call("CHECK", "first-1", &netns)?.is_empty());
    }
    ensure!(mesh.attached()? == 1);
    shop.audit()?;
    let account = shop.close()?;
    ensure!(
        account
            == Account {
                proxied: 2,
                direct: 0,
                refused: 1
            }
    );
    for _ in 0..2 {
        ensure!(mesh.call("DEL", "first-1", "")?.is_empty());
    }
    agent.until("let go", || {
        mesh.attached().is_ok_and(|attached| attached == 0)
    });
    ensure!(mesh.node.traces()?.is_empty(), "{:?}", mesh.node.traces()?);
    let accepted = mesh.accepted(FAR)?;
    ensure!(
        (accepted.direct(), accepted.redirected) == (1, 2),
        "{accepted:?}"
    );
    ensure!(mesh.accepted(LATE)?.direct() == 0);
    Ok(())
}

fn pods_come_and_go() -> Tested {
    crowd("crowd", 4, 2).map(drop)
}

fn soak_pods_a_hundred_come_and_go() -> Tested {
    crowd("hundred", 100, 6).map(drop)
}

/// So many pods, so many at a time, each with its own life.
fn crowd(name: &str, pods: usize, at_once: usize) -> Result<Account> {
    let begun = Instant::now();
    let mesh = &Mesh::new(name)?;
    let agent = mesh.guarded()?;
    let next = &AtomicUsize::new(0);
    let live = || -> Result<Account> {
        let mut total = Account::default();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= pods {
                return Ok(total);
            }
            let mut shop = Shop::open(mesh, &format!("{name}-{number}"))?;
            let is_over = AtomicBool::new(true);
            for _ in 0..4 {
                shop.trade(&is_over)?;
            }
            total += shop.close()?;
            progress(&format!("{} of {pods} pods", number + 1));
        }
    };
    let total = thread::scope(|scope| {
        let lives: Vec<_> = (0..at_once).map(|_| scope.spawn(live)).collect();
        let mut total = Account::default();
        for life in lives {
            total += life.join().map_err(|_panic| anyhow!("a panic"))??;
        }
        Ok::<_, anyhow::Error>(total)
    })?;
    agent.until("let go", || {
        mesh.attached().is_ok_and(|attached| attached == 0)
    });
    ensure!(mesh.node.traces()?.is_empty(), "{:?}", mesh.node.traces()?);
    settle(mesh, total)?;
    let late = mesh.accepted(LATE)?;
    ensure!(
        late.direct() == 0 && late.redirected >= pods as u64,
        "{late:?}"
    );
    progress(&format!(
        "{pods} pods, {at_once} at once, in {:.1} s: {total:?}, and {late:?} of those who were killed",
        begun.elapsed().as_secs_f64()
    ));
    Ok(total)
}

/// The world has seen what the applications have.
fn settle(mesh: &Mesh, total: Account) -> Tested {
    let accepted = mesh.accepted(FAR)?;
    ensure!(
        (accepted.redirected, accepted.direct(), accepted.silent)
            == (total.proxied, total.direct, 0),
        "{accepted:?}, {total:?}"
    );
    Ok(())
}

fn annotations_and_agents_change_under_load() -> Tested {
    changes("changes", 2, 4)
}

fn soak_pods_agents_are_killed_fifty_times() -> Tested {
    changes("fifty", 8, 50)
}

/// So many pods, all of them edited before each kill of an agent; others come and go meanwhile.
fn changes(name: &str, pods: usize, kills: usize) -> Tested {
    let begun = Instant::now();
    let mesh = &Mesh::new(name)?;
    let agent = mesh.guarded()?;
    let shops = (0..pods).map(|number| Shop::open(mesh, &format!("{name}-{number}")));
    let mut shops = shops.collect::<Result<Vec<_>>>()?;
    let edit = |round: usize| {
        // By turns, also among every fourth of them; and never the same twice.
        let mut ranges = format!("10.{round}.0.0/16");
        if (round + round / 4).is_multiple_of(2) {
            write!(ranges, ",{}/32", far().ip())?;
        }
        for number in 0..pods {
            mesh.put(&format!("{name}-{number}"), &json!({(EXCLUDED): ranges}));
        }
        Ok::<_, anyhow::Error>(())
    };
    let updated = |agent: &crate::node::Agent| {
        agent.metric("redirect_agent_actions_total", &["update", "ok"]) >= pods as u64
    };
    let is_over = &AtomicBool::new(false);
    let mut total = Account::default();
    let passers = &AtomicU64::new(0);
    thread::scope(|scope| {
        // Others come and go, as often as an agent is there.
        let passing = scope.spawn(|| {
            let mut passed = Account::default();
            while !is_over.load(Ordering::Relaxed) {
                let number = passers.load(Ordering::Relaxed);
                let shop = Shop::open(mesh, &format!("{name}-passer-{number}"))?;
                passed += shop.close()?;
                passers.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, anyhow::Error>(passed)
        });
        let mut agent = Some(agent);
        let loaded = under_load(&mut shops, || {
            for round in 0..kills {
                edit(round)?;
                let running = agent.take().unwrap_or_else(|| mesh.agent());
                match round % 4 {
                    // With all done, and after somebody has come and gone,
                    0 => {
                        running.until("all are updated", || updated(&running));
                        let before = passers.load(Ordering::Relaxed);
                        let passed =
                            || passing.is_finished() || passers.load(Ordering::Relaxed) > before;
                        running.until("somebody has passed", passed);
                    }
                    // as soon as it says anything,
                    1 => running.until("it begins", || !running.log().is_empty()),
                    // ready, and with more to do,
                    2 => {
                        running.until_ready();
                        edit(round + 1)?;
                    }
                    // or in the middle of it.
                    _ => {
                        let some = || running.metric("redirect_agent_actions_total", &[]) > 0;
                        running.until("it acts", some);
                    }
                }
                ensure!(running.end(Signal::KILL).is_none(), "it ended by itself");
                progress(&format!("{} of {kills} agents killed", round + 1));
            }
            agent = Some(mesh.agent());
            Ok(())
        });
        is_over.store(true, Ordering::Relaxed);
        let passed = passing.join().map_err(|_panic| anyhow!("a panic"))?;
        loaded?;
        total += passed?;
        edit(1)?;
        let agent = agent.ok_or_else(|| anyhow!("no agent"))?;
        agent.until_ready();
        for shop in &mut shops {
            let redirected = || shop.dial().is_ok_and(|account| account.proxied == 1);
            ensure!(wait_until(LONG, redirected), "{}", agent.log());
        }
        for shop in shops.drain(..) {
            let account = shop.close()?;
            ensure!(account.proxied > 2 && account.direct > 0, "{account:?}");
            total += account;
        }
        agent.until("let go", || {
            mesh.attached().is_ok_and(|attached| attached == 0)
        });
        Ok::<_, anyhow::Error>(())
    })?;
    ensure!(mesh.node.traces()?.is_empty(), "{:?}", mesh.node.traces()?);
    settle(mesh, total)?;
    ensure!(mesh.accepted(LATE)?.direct() == 0);
    let passers = passers.load(Ordering::Relaxed);
    ensure!(
        passers > 0 && total.refused == passers + pods as u64,
        "{total:?}"
    );
    progress(&format!(
        "{pods} pods and {passers} that came and went, {kills} agents killed, {} sandboxes refused meanwhile, in {:.1} s: {total:?}",
        mesh.retries.load(Ordering::Relaxed),
        begun.elapsed().as_secs_f64()
    ));
    Ok(())
}

fn uninstalled_under_load() -> Tested {
    const HELD: usize = 5;
    let mesh = Mesh::new("uninstalled")?;
    let before = mesh.pins()?;
    let agent = mesh.guarded()?;
    let shops = (0..2).map(|number| Shop::open(&mesh, &format!("uninstalled-{number}")));
    let mut shops = shops.collect::<Result<Vec<_>>>()?;
    let mut total = Account::default();
    for shop in &shops {
        let hold = Hold {
            to: far(),
            bind: None,
            connections: u32::try_from(HELD)?,
        };
        let is_open = || {
            shop.app
                .held()
                .is_ok_and(|held| held.established as usize == HELD)
        };
        shop.app.hold(&hold)?;
        ensure!(wait_until(LONG, is_open));
    }
    under_load(&mut shops, || {
        mesh.install(&["--remove"])?;
        mesh.node.until_plugin("redirect-cni", false)?;
        ensure!(agent.end(Signal::TERM) == Some(0));
        mesh.cleanup()?;
        Ok(())
    })?;
    ensure!(mesh.pins()? == before, "{:?}", mesh.pins()?);
    ensure!(!mesh.node.plugins().join("redirect-cni").exists());
    for shop in &mut shops {
        ensure!(shop.dial()?.direct == 1, "it is redirected still");
        let answers = shop.app.ask_held(LONG)?;
        let is_proxied = |answer: &Answer| matches!(answer, Answer::Greeting(greeting) if greeting.orig_dst == Some(far()));
        ensure!(
            answers.len() == HELD && answers.iter().all(is_proxied),
            "{answers:?}"
        );
        total += shop.account;
        total.proxied += HELD as u64;
    }
    // Who comes now is nobody's.
    let pod = mesh.run("uninstalled-later")?;
    let (_, dialled) = pod.app("app", &first())?;
    ensure!(
        dialled
            .greeting()
            .is_some_and(|greeting| greeting.orig_dst.is_none())
    );
    total.direct += 1;
    settle(&mesh, total)?;
    pod.remove()?;
    for shop in shops {
        shop.sandbox.remove()?;
    }
    ensure!(mesh.node.traces()?.is_empty(), "{:?}", mesh.node.traces()?);
    Ok(())
}

/// Said while it runs, where somebody listens: `--nocapture` or not, what passes here says nothing else.
fn progress(text: &str) {
    eprintln!("{text}");
}
