//! The agent and its plugin on a node with a real kubelet.

use anyhow::{Result, ensure};
use redirect_testkit::cases;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{
    cluster::{Cluster, pod},
    daemonset,
    program::NODE,
};
use crate::{
    Cases, Needs, Tested,
    apiserver::{PODS, events, word},
    containers::{mesh::FAR, mesh_pod::Tally},
    kube::EXCLUDED,
};

pub(crate) const SOAKS: &[Cases] = cases! {
    Needs::Containers => [
        soak_kubelet_runs_a_pod_from_its_first_instruction_to_its_last,
        soak_kubelet_waits_for_the_agent,
        soak_kubelet_runs_a_static_pod,
        daemonset::soak_kubelet_runs_the_agent_as_it_is_deployed,
    ],
};

/// Address of the server, as a range.
const SERVER: &str = "36.152.44.96/32";

fn soak_kubelet_runs_a_pod_from_its_first_instruction_to_its_last() -> Tested {
    let cluster = Cluster::new("kubelet")?;
    let agent = cluster.mesh.agent_with_plugin()?;
    let worker_socket = cluster.worker_socket()?;
    let uid = cluster.create("web", &worker_socket)?;
    let mut shop = cluster.shop("web", &uid, &worker_socket)?;
    let has = |reason: &str| {
        let events = cluster.api().and_then(|api| events(&api, "web"));
        events.is_ok_and(|events| events.iter().any(|(found, _)| found == reason))
    };
    agent.until("the Event", || has("TrafficRedirected"));

    let annotate = |range: Value| {
        let change = json!({"metadata": {"annotations": {(EXCLUDED): range}}});
        cluster.api()?.patch(&format!("{PODS}/web"), &change)
    };
    annotate(json!(SERVER))?;
    agent.until("the other Event", || has("TrafficRedirectionChanged"));
    ensure!(shop.dial()?.direct == 1);
    ensure!(agent.end(Signal::KILL).is_none());
    annotate(Value::Null)?;
    ensure!(shop.dial()?.direct == 1);
    let agent = cluster.mesh.agent();
    agent.until_ready();
    ensure!(shop.dial()?.proxied == 1);
    shop.check_counts()?;
    shop.restart(&worker_socket)?;

    let tally = shop.stop(&agent, || {
        let path = format!("{PODS}/web");
        cluster.api()?.delete(&path)?;
        ensure!(cluster.pod("web")?["metadata"]["deletionTimestamp"].is_string());
        Ok(())
    })?;
    ensure!(tally.direct == 2 && tally.proxied >= 3, "{tally:?}");
    cluster.mesh.check_world_counts(tally)
}

fn soak_kubelet_waits_for_the_agent() -> Tested {
    let cluster = Cluster::new("waits")?;
    let agent = cluster.mesh.agent_with_plugin()?;
    ensure!(agent.end(Signal::KILL).is_none());
    let worker_socket = cluster.worker_socket()?;
    let uid = cluster.create("web", &worker_socket)?;
    cluster.until("its attempts fail", || {
        let events = cluster.api().and_then(|api| events(&api, "web"));
        events.is_ok_and(|events| {
            events.iter().any(|(reason, note)| {
                reason == "FailedCreatePodSandBox" && note.contains("redirect-cni")
            })
        })
    })?;
    ensure!(cluster.mesh.accepted(FAR)?.direct() == 0);
    let agent = cluster.mesh.agent();
    agent.until_ready();
    let shop = cluster.shop("web", &uid, &worker_socket)?;
    let tally = shop.stop(&agent, || {
        cluster.api()?.delete(&format!("{PODS}/web"))?;
        Ok(())
    })?;
    cluster.mesh.check_world_counts(tally)
}

fn soak_kubelet_runs_a_static_pod() -> Tested {
    let cluster = Cluster::new("file")?;
    let agent = cluster.mesh.agent_with_plugin()?;
    let worker_socket = cluster.worker_socket()?;
    let text = pod("web", &worker_socket, &json!({}))?.to_string();
    cluster.kubelet.give("web.yaml", Some(&text))?;
    let name = format!("web-{NODE}");
    let hash = || {
        let pod = cluster.pod(&name).unwrap_or_default();
        word(&pod["metadata"]["annotations"]["kubernetes.io/config.hash"])
    };
    cluster.until("its mirror", || !hash().is_empty())?;
    let mut shop = cluster.shop(&name, &hash(), &worker_socket)?;
    agent.until("the Event", || {
        let events = cluster.api().and_then(|api| events(&api, &name));
        events.is_ok_and(|events| {
            events
                .iter()
                .any(|(reason, _)| reason == "TrafficRedirected")
        })
    });
    shop.restart(&worker_socket)?;
    let mut total = shop.tally;

    // Other pods of the same name replace it.
    let change = |ranges: &str| -> Result<String> {
        let before = hash();
        let text = pod("web", &worker_socket, &json!({(EXCLUDED): ranges}))?.to_string();
        cluster.kubelet.give("web.yaml", Some(&text))?;
        cluster.until("its mirror", || !["", &before].contains(&hash().as_str()))?;
        Ok(hash())
    };
    change(SERVER)?;
    // Dropping the worker would end its container, and restart it.
    let (_worker, dialled) = worker_socket.accept_app(&name)?;
    let tally = Tally::of_outcome(&dialled.outcome)?;
    ensure!(tally.direct == 1, "excluded by its file: {dialled:?}");
    total += tally;
    let shop = cluster.shop(&name, &change("10.0.0.0/8")?, &worker_socket)?;
    total += shop.stop(&agent, || cluster.kubelet.give("web.yaml", None))?;
    cluster.mesh.check_world_counts(total)
}
