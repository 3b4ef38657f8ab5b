//! Edited annotations and killed agents, while applications dial without a pause.

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Instant,
};

use anyhow::{Result, anyhow, ensure};
use redirect_testkit::{StopOnDrop, wait_until};
use rustix::process::Signal;
use serde_json::json;

use super::{
    LONG, Say,
    mesh::{LATE, Mesh, far},
    mesh_pod::{MeshPod, Tally, under_load},
};
use crate::{Tested, agent_process::Agent, kube::EXCLUDED};

/// Pods that stay, and others that come and go in the background.
struct Changes<'mesh> {
    mesh: &'mesh Mesh,
    name: &'mesh str,
    pods: usize,
    /// Number of pods that have come and gone.
    passed: AtomicU64,
    is_over: AtomicBool,
}

/// Edits all pods before each kill of an agent, while others come and go.
pub(super) fn changes(name: &str, pods: usize, kills: usize, say: Say) -> Tested {
    let begun = Instant::now();
    let mesh = &Mesh::new(name)?;
    let agent = mesh.agent_with_plugin()?;
    let shops = (0..pods).map(|number| MeshPod::start(mesh, &format!("{name}-{number}")));
    let mut shops = shops.collect::<Result<Vec<_>>>()?;
    let changes = &Changes {
        mesh,
        name,
        pods,
        passed: AtomicU64::new(0),
        is_over: AtomicBool::new(false),
    };
    let (agent, mut total) = thread::scope(|scope| {
        let passing = scope.spawn(|| changes.pass());
        let until = StopOnDrop(&changes.is_over);
        let loaded = under_load(&mut shops, || {
            let mut agent = agent;
            for round in 0..kills {
                changes.edit(round)?;
                changes.wait(round, &agent, &|| passing.is_finished())?;
                ensure!(
                    agent.end(Signal::KILL).is_none(),
                    "an agent ended by itself"
                );
                agent = mesh.agent();
                say(&format!("{} of {kills} agents killed", round + 1));
            }
            Ok(agent)
        });
        drop(until);
        let passed = passing.join().map_err(|_panic| anyhow!("a panic"))?;
        Ok::<_, anyhow::Error>((loaded?, passed?))
    })?;
    for shop in changes.all_redirected(shops, &agent)? {
        let tally = shop.stop()?;
        ensure!(tally.proxied > 2 && tally.direct > 0, "{tally:?}");
        total += tally;
    }
    mesh.until_all_detached(&agent)?;
    mesh.check_world_counts(total)?;
    ensure!(mesh.accepted(LATE)?.direct() == 0);
    let passed = changes.passed.load(Ordering::Relaxed);
    ensure!(
        passed > 0 && total.refused == passed + pods as u64,
        "{total:?}"
    );
    say(&format!(
        "{pods} pods and {passed} that came and went, {kills} agents killed, {} sandboxes refused with_background, in {:.1} s: {total:?}",
        mesh.retries.load(Ordering::Relaxed),
        begun.elapsed().as_secs_f64()
    ));
    Ok(())
}

impl Changes<'_> {
    /// Gives all pods other annotations, in which the destination is excluded or not. No two rounds have the
    /// same ones.
    fn edit(&self, round: usize) -> Tested {
        let mut ranges = format!("10.{round}.0.0/16");
        // The two alternate, also among every fourth round.
        if (round + round / 4).is_multiple_of(2) {
            write!(ranges, ",{}/32", far().ip())?;
        }
        for number in 0..self.pods {
            let name = format!("{}-{number}", self.name);
            self.mesh.put(&name, &json!({(EXCLUDED): ranges}));
        }
        Ok(())
    }

    /// Waits for the moment of the kill.
    fn wait(&self, round: usize, agent: &Agent, is_broken: &dyn Fn() -> bool) -> Tested {
        let updated = |pods: usize| {
            let try_metric = agent.try_metric("redirect_agent_actions_total", &["update", "ok"]);
            try_metric.is_some_and(|updates| updates >= pods as u64)
        };
        match round % 4 {
            // After all updates, and after a pod has come and gone.
            0 => {
                agent.until("all are updated", || updated(self.pods));
                let before = self.passed.load(Ordering::Relaxed);
                agent.until("a pod has come and gone", || {
                    is_broken() || self.passed.load(Ordering::Relaxed) > before
                });
            }
            // At the first log line.
            1 => agent.until("the first log line", || !agent.log().is_empty()),
            // When it is ready, and has more to do.
            2 => {
                agent.until_ready();
                self.edit(round + 1)?;
            }
            // In the middle of the updates.
            _ => agent.until("it updates", || updated(1)),
        }
        Ok(())
    }

    /// Lets pods come and go until the end.
    fn pass(&self) -> Result<Tally> {
        let mut total = Tally::default();
        while !self.is_over.load(Ordering::Relaxed) {
            let number = self.passed.load(Ordering::Relaxed);
            let shop = MeshPod::start(self.mesh, &format!("{}-passer-{number}", self.name))?;
            total += shop.stop()?;
            self.passed.fetch_add(1, Ordering::Relaxed);
        }
        Ok(total)
    }

    /// Removes all exclusions, and waits until every pod is redirected.
    fn all_redirected<'mesh>(
        &self,
        mut shops: Vec<MeshPod<'mesh>>,
        agent: &Agent,
    ) -> Result<Vec<MeshPod<'mesh>>> {
        agent.until_ready();
        self.edit(1)?;
        for shop in &mut shops {
            // Connections are direct until the edit, and never lost or misdirected.
            let mut seen = Ok(false);
            let redirected = || {
                seen = shop.dial().map(|tally| tally.proxied == 1);
                !matches!(seen, Ok(false))
            };
            let ended = wait_until(LONG, redirected);
            ensure!(seen? && ended, "{}", agent.log());
        }
        Ok(shops)
    }
}
