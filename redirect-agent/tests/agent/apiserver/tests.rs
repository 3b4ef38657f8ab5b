//! The agent and a real API server.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, ensure};
use redirect_testkit::{Identity, Pod, cases, wait_until};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{
    api::Api,
    cluster::{AGENT, Cluster, PODS, allowed, word},
};
use crate::{
    Cases, Needs, Tested,
    agent_process::Agent,
    kube::EXCLUDED,
    runtime::{Sandbox, call},
    scene::{Scene, reached},
};

pub(crate) const SOAKS: &[Cases] = cases! {
    Needs::Pods => [
        soak_apiserver_reports_pods_and_accepts_events,
        soak_apiserver_answers_lookups_of_the_plugin,
        soak_apiserver_forgets_versions_and_pods_are_relisted,
        soak_apiserver_ends_a_watch_and_the_next_one_continues,
    ],
};

/// Longer than a watch is left open.
const WATCH: Duration = Duration::from_mins(5);

fn soak_apiserver_reports_pods_and_accepts_events() -> Tested {
    let cluster = Cluster::new("api-tells")?;
    let shop = cluster.scene("web")?;
    // The cgroup is on this machine, too; only the API server knows that the pod is another node's.
    let uid = cluster.put("elsewhere", Some("other"))?;
    let elsewhere = Scene::of(Pod::in_kubepods("elsewhere", &uid)?)?;
    let agent = cluster.start();
    ensure!(shop.reached()? == "old", "{}", agent.log());
    ensure!(elsewhere.reached()? == "world");
    ensure!(cluster.until_events(&agent, "web", 1)[0].0 == "TrafficRedirected");

    let late = cluster.scene("late")?;
    agent.until("a pod that comes later", || late.reaches("old"));

    cluster.annotate("web", EXCLUDED, &json!("36.152.44.0/24"))?;
    agent.until("an edited annotation", || shop.reaches("world"));
    let events = cluster.until_events(&agent, "web", 2);
    ensure!(events[1].0 == "TrafficRedirectionChanged", "{events:?}");
    cluster.annotate("web", EXCLUDED, &json!("36.152.44.0"))?;
    let (reason, note) = cluster.until_events(&agent, "web", 3).remove(2);
    ensure!(reason == "TrafficRedirectionRefused");
    let says = format!("pod shop/web: annotation {EXCLUDED} \"36.152.44.0\": ");
    ensure!(note.starts_with(&says), "{note}");
    ensure!(shop.reached()? == "world");

    agent.end(Signal::KILL);
    cluster.annotate("web", EXCLUDED, &Value::Null)?;
    ensure!(shop.reached()? == "world" && late.reached()? == "old");
    let agent = cluster.start();
    ensure!(shop.reached()? == "old" && late.reached()? == "old");
    let done = || agent.metric("redirect_agent_actions_total", &[]);
    ensure!(done() == 1, "{}", agent.log());

    // A pod that is being deleted stays redirected until it has ended.
    cluster.api()?.delete(&format!("{PODS}/late"))?;
    let late_now = cluster.api()?.get(&format!("{PODS}/late"))?;
    ensure!(late_now["metadata"]["deletionTimestamp"].is_string());
    // The agent has received the deletion before this edit.
    cluster.annotate("web", EXCLUDED, &json!("36.152.44.0/24"))?;
    agent.until("an edited annotation", || shop.reaches("world"));
    ensure!(late.reached()? == "old");
    drop(late);
    cluster.delete("late")?;
    agent.until("detached", || cluster.node.pods().len() == 1);
    ensure!(agent.metric("redirect_agent_events_total", &["result=\"failed\""]) == 0);

    // A pod that has ended by itself is detached like a deleted one.
    let ended = json!({"status": {"phase": "Succeeded"}});
    cluster
        .api()?
        .patch(&format!("{PODS}/web/status"), &ended)?;
    agent.until("detached", || cluster.node.pods().is_empty());
    Ok(())
}

fn soak_apiserver_answers_lookups_of_the_plugin() -> Tested {
    let cluster = Cluster::new("api-asked")?;
    let agent = cluster.start();
    // The watch of a node does not show a pod that is on no node yet.
    let uid = cluster.put("early", None)?;
    let pod = Pod::in_kubepods("early", &uid)?;
    let world = Scene::outside(&pod)?;
    let sandbox = Sandbox::of(&uid, &pod).named("early");
    let ran = call(&cluster.node, "ADD", &sandbox, &json!({}))?;
    ensure!(ran.is_added(), "{ran:?}: {}", agent.log());
    ensure!(reached(&pod.worker(&Identity::app())?)? == "refused");
    let scene = Scene::inside(pod, world)?;
    ensure!(scene.reached()? == "old");
    ensure!(cluster.requests_of("get") == [format!("{PODS}/early")]);
    let attached = cluster.node.pods();

    // The test acts as the scheduler.
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding", "metadata": {"name": "early"},
        "target": {"apiVersion": "v1", "kind": "Node", "name": "this"},
    });
    cluster
        .api()?
        .post(&format!("{PODS}/early/binding"), &binding)?;
    agent.until("the agent notices", || {
        agent.metric("redirect_agent_workloads", &["source=\"kube\""]) == 1
    });
    ensure!(cluster.node.pods() == attached && scene.reached()? == "old");
    cluster.annotate("early", EXCLUDED, &json!("36.152.44.0/24"))?;
    agent.until("an edited annotation", || scene.reaches("world"));
    cluster.until_events(&agent, "early", 2);

    // A pod with another uid, and a missing pod.
    let other = Sandbox::of("00000000-0000-4000-8000-000000000000", &scene.pod);
    let (_, why) = call(&cluster.node, "CHECK", &other.named("early"), &json!({}))?.error()?;
    ensure!(why.contains(&uid), "{why}");
    let none = Sandbox::of(&uid, &scene.pod).named("nobody");
    let (_, why) = call(&cluster.node, "CHECK", &none, &json!({}))?.error()?;
    ensure!(why.contains("the API server has no such pod"), "{why}");

    // The agent has used every permission of the role, and no other.
    let requests = cluster.requests();
    let used = requests.iter().map(|request| {
        let resource = &request["objectRef"]["resource"];
        (word(&request["verb"]), word(resource))
    });
    let used: BTreeSet<_> = used.collect();
    ensure!(used == allowed()?, "{used:?}");
    for line in cluster.plane.audit(AGENT) {
        let decision = &line["annotations"]["authorization.k8s.io/decision"];
        ensure!(*decision != "forbid", "{line}");
    }
    // The API server enforces roles.
    let as_agent = Api::new(&cluster.node.file("kubeconfig"))?;
    let refused = as_agent.get("/api/v1/namespaces/kube-system/secrets");
    let why = format!("{:#}", refused.err().context("an error")?);
    ensure!(why.contains(AGENT) && why.contains("forbidden"), "{why}");
    Ok(())
}

fn is_up(agent: &Agent) -> u64 {
    agent.metric("redirect_agent_source_up", &["source=\"kube\""])
}

/// The first round restarts the server, which forgets the time before its start; the second one has etcd
/// forget.
fn soak_apiserver_forgets_versions_and_pods_are_relisted() -> Tested {
    let mut cluster = Cluster::new("api-forgets")?;
    let shop = cluster.scene("web")?;
    let agent = cluster.start();
    ensure!(shop.reached()? == "old");
    for (round, from) in [&[][..], &["--watch-cache=false"]].into_iter().enumerate() {
        let gone = cluster.scene(&format!("gone-{round}"))?;
        agent.until("the other one", || gone.reaches("old"));
        let lists = cluster.requests_of("list").len();

        cluster.plane.down();
        agent.until("trouble", || is_up(&agent) == 0);
        ensure!(shop.reached()? == "old" && gone.reached()? == "old");
        // The agent misses the changes from here on.
        agent.signal(Signal::STOP);
        cluster.plane.up(&[])?;
        let range = ["36.152.44.0/24", "36.152.0.0/16"][round];
        cluster.annotate("web", EXCLUDED, &json!(range))?;
        cluster.delete(&format!("gone-{round}"))?;
        cluster.plane.down();
        cluster.plane.compact()?;
        cluster.plane.up(from)?;
        ensure!(shop.reached()? == "old" && gone.reached()? == "old");
        agent.signal(Signal::CONT);

        agent.until("the edited annotation", || shop.reaches("world"));
        // A pod that was deleted with force stays redirected until it has ended.
        ensure!(gone.reached()? == "old");
        drop(gone);
        agent.until("detached", || cluster.node.pods().len() == 1);
        let listed = cluster.requests_of("list");
        let listed = listed.get(lists..).unwrap_or_default();
        let is_bounded = |list: &String| list.contains("resourceVersionMatch=NotOlderThan");
        ensure!(
            listed.len() == 1 && listed.iter().all(is_bounded),
            "{listed:?}"
        );
        ensure!(is_up(&agent) == 1);
        cluster.annotate("web", EXCLUDED, &Value::Null)?;
        agent.until("the watch after it", || shop.reaches("old"));
    }
    Ok(())
}

/// The test takes the two to four minutes of a watch.
fn soak_apiserver_ends_a_watch_and_the_next_one_continues() -> Tested {
    let cluster = Cluster::new("api-ends")?;
    let shop = cluster.scene("web")?;
    let agent = cluster.start();
    agent.until("the watch", || cluster.requests_of("watch").len() == 1);
    ensure!(wait_until(WATCH, || cluster.requests_of("watch").len() == 2));
    cluster.annotate("web", EXCLUDED, &json!("36.152.44.0/24"))?;
    agent.until("an edited annotation", || shop.reaches("world"));
    ensure!(cluster.requests_of("list").len() == 1, "{}", agent.log());
    ensure!(!agent.log().contains("\"WARN\""), "{}", agent.log());
    Ok(())
}
