//! The agent and its plugin on a node with a real container runtime, real sidecars, and applications that
//! dial at their first instruction: no connection escapes, none is lost, and all sides count the same.
//!
//! Without the programs the applications reach the world directly, which the first test checks.

use anyhow::{Result, anyhow, ensure};
use redirect_testkit::{Answer, OpenConnections, cases, wait_until};
use rustix::process::Signal;
use serde_json::json;

use super::{
    LONG,
    changes::changes,
    churn::churn,
    mesh::{FAR, LATE, Mesh, far},
    mesh_pod::{MeshPod, Tally, first, under_load},
    versions::versions,
};
use crate::{Cases, Needs, Tested};

pub(crate) const CASES: &[Cases] = cases! {
    Needs::Containers => [
        a_pod_is_redirected_from_its_first_instruction_to_its_last,
        pods_come_and_go,
        annotations_and_agents_change_under_load,
        versions_change_under_load,
        uninstalling_under_load_loses_no_connection,
    ],
};

/// The long versions: see `cargo xtask soak`.
pub(crate) const SOAKS: &[Cases] = cases! {
    Needs::Containers => [
        soak_pods_a_hundred_come_and_go,
        soak_pods_agents_are_killed_fifty_times,
        soak_pods_versions_change_twenty_times,
    ],
};

fn a_pod_is_redirected_from_its_first_instruction_to_its_last() -> Tested {
    let mesh = Mesh::new("first")?;
    // Without an agent the connection escapes.
    mesh.put("bare", &json!({}));
    let bare = mesh.run("bare")?;
    let (_, dialled) = bare.app("app", &first())?;
    let banner = dialled.banner().ok_or_else(|| anyhow!("{dialled:?}"))?;
    ensure!(banner.orig_dst.is_none() && mesh.accepted(FAR)?.direct() == 1);
    bare.remove()?;
    mesh.delete("bare");

    let agent = mesh.agent_with_plugin()?;
    let mut shop = MeshPod::start(&mesh, "first-1")?;
    ensure!(shop.dial()?.proxied == 1);
    shop.check_counts()?;
    let netns = format!("/proc/{}/ns/net", shop.app.pid());
    for _ in 0..2 {
        ensure!(mesh.call("CHECK", "first-1", &netns)?.is_empty());
    }
    ensure!(mesh.attached()? == 1);
    shop.check_counts()?;
    let tally = shop.stop()?;
    let expected = Tally {
        proxied: 2,
        direct: 0,
        refused: 1,
    };
    ensure!(tally == expected, "{tally:?}");
    for _ in 0..2 {
        ensure!(mesh.call("DEL", "first-1", "")?.is_empty());
    }
    mesh.until_all_detached(&agent)?;
    let accepted = mesh.accepted(FAR)?;
    ensure!(
        (accepted.direct(), accepted.redirected) == (1, 2),
        "{accepted:?}"
    );
    ensure!(mesh.accepted(LATE)?.direct() == 0);
    Ok(())
}

fn pods_come_and_go() -> Tested {
    churn("crowd", 4, 2, |_| ())
}

fn soak_pods_a_hundred_come_and_go() -> Tested {
    churn("hundred", 100, 6, progress)
}

fn annotations_and_agents_change_under_load() -> Tested {
    changes("changes", 2, 4, |_| ())
}

fn soak_pods_agents_are_killed_fifty_times() -> Tested {
    changes("fifty", 8, 50, progress)
}

fn versions_change_under_load() -> Tested {
    versions("versions", 2, 2, |_| ())
}

fn soak_pods_versions_change_twenty_times() -> Tested {
    versions("twenty", 8, 20, progress)
}

fn uninstalling_under_load_loses_no_connection() -> Tested {
    const HELD: usize = 5;
    let mesh = Mesh::new("uninstalled")?;
    let before = mesh.pins()?;
    let agent = mesh.agent_with_plugin()?;
    let shops = (0..2).map(|number| MeshPod::start(&mesh, &format!("uninstalled-{number}")));
    let mut shops = shops.collect::<Result<Vec<_>>>()?;
    let mut total = Tally::default();
    for shop in &shops {
        let hold = OpenConnections {
            to: far(),
            bind: None,
            count: u32::try_from(HELD)?,
        };
        let is_open = || {
            shop.app
                .connection_counts()
                .is_ok_and(|held| held.established as usize == HELD)
        };
        shop.app.open_connections(&hold)?;
        ensure!(wait_until(LONG, is_open));
    }
    under_load(&mut shops, || {
        mesh.install(&["--remove"])?;
        mesh.node.wait_for_plugin("redirect-cni", false)?;
        ensure!(agent.end(Signal::TERM) == Some(0));
        mesh.cleanup()?;
        Ok(())
    })?;
    ensure!(mesh.pins()? == before, "{:?}", mesh.pins()?);
    ensure!(!mesh.node.plugin_folder().join("redirect-cni").exists());
    for shop in &mut shops {
        ensure!(shop.dial()?.direct == 1, "it is still redirected");
        let answers = shop.app.ask_connections(LONG)?;
        let is_proxied = |answer: &Answer| matches!(answer, Answer::Banner(banner) if banner.orig_dst == Some(far()));
        ensure!(
            answers.len() == HELD && answers.iter().all(is_proxied),
            "{answers:?}"
        );
        total += shop.tally;
        total.proxied += HELD as u64;
    }
    // A pod that starts now is not redirected.
    let pod = mesh.run("uninstalled-later")?;
    let (_, dialled) = pod.app("app", &first())?;
    ensure!(
        dialled
            .banner()
            .is_some_and(|banner| banner.orig_dst.is_none())
    );
    total.direct += 1;
    mesh.check_world_counts(total)?;
    pod.remove()?;
    for shop in shops {
        shop.sandbox.remove()?;
    }
    ensure!(
        mesh.node.pod_resources()?.is_empty(),
        "{:?}",
        mesh.node.pod_resources()?
    );
    Ok(())
}

/// Prints the progress of the long versions.
fn progress(text: &str) {
    eprintln!("{text}");
}
