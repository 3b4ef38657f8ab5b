//! Agents of other builds and other layouts, which replace each other while applications dial without a
//! pause.

use std::{fs, time::Instant};

use anyhow::{Result, ensure};
use redirect_common::abi::ABI_VERSION;
use rustix::process::Signal;

use super::{
    Say,
    mesh::{LATE, Mesh, STATE_DIR},
    mesh_pod::{MeshPod, Tally, under_load},
};
use crate::{
    Tested,
    upgrade::{another_build, rename_layout},
};

/// Replaces the agents of this many pods by one of another build and one of another layout, this many times.
pub(super) fn versions(name: &str, pods: usize, rounds: u64, say: Say) -> Tested {
    let begun = Instant::now();
    let mesh = &Mesh::new(name)?;
    let agent = mesh.agent_with_plugin()?;
    let shops = (0..pods).map(|number| MeshPod::start(mesh, &format!("{name}-{number}")));
    let mut shops = shops.collect::<Result<Vec<_>>>()?;
    let agent = under_load(&mut shops, || {
        let mut agent = agent;
        for round in 1..=rounds {
            ensure!(agent.end(Signal::KILL).is_none());
            another_build(&mesh.node.path(STATE_DIR), round)?;
            agent = mesh.agent();
            agent.until_ready();
            let log = agent.log();
            ensure!(log.contains("replaced the programs"), "{log}");

            ensure!(agent.end(Signal::KILL).is_none());
            // An older and a newer layout alternate.
            let layout = if round % 2 == 0 {
                ABI_VERSION + 1
            } else {
                ABI_VERSION - 1
            };
            rename_layout(&mesh.node.path(STATE_DIR), layout)?;
            agent = mesh.agent();
            agent.until("all are taken over", || {
                let taken = agent.try_metric("redirect_agent_actions_total", &["take-over", "ok"]);
                taken == Some(pods as u64)
            });
            set_aside(mesh, layout, round)?;
            say(&format!("{round} of {rounds} rounds of versions"));
        }
        Ok(agent)
    })?;
    let mut total = Tally::default();
    for shop in shops {
        let tally = shop.stop()?;
        ensure!(
            tally.proxied > 2 && (tally.direct, tally.refused) == (0, 1),
            "{tally:?}"
        );
        total += tally;
    }
    mesh.until_all_detached(&agent)?;
    mesh.check_world_counts(total)?;
    ensure!(mesh.accepted(LATE)?.direct() == 0);
    say(&format!(
        "{pods} pods, {rounds} other builds and {rounds} other layouts, in {:.1} s: {total:?}",
        begun.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// Moves the counters of a layout to the former ones, so that its name is free.
fn set_aside(mesh: &Mesh, layout: u32, round: u64) -> Tested {
    let former_layouts = mesh.former_layouts().join(round.to_string());
    let version = former_layouts.join(format!("v{ABI_VERSION}"));
    fs::create_dir_all(&version)?;
    let taken_over = mesh.node.path(STATE_DIR).join(format!("v{layout}"));
    fs::rename(taken_over.join("maps"), version.join("maps"))?;
    fs::rename(&taken_over, former_layouts.join("rest"))?;
    Ok(())
}
