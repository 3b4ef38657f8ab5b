//! The agent and a real API server, with the roles of `deploy/redirect-agent.yaml`.
//!
//! Nothing runs here that a control plane has besides: pods are bound and deleted by the test, which is scheduler and
//! kubelet.

pub(crate) mod api;
pub(crate) mod control_plane;

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use redirect_testkit::{Identity, Pod, wait_until};
use rustix::process::Signal;
use serde_json::{Value, json};

use self::{api::Api, control_plane::ControlPlane};
use crate::{
    Test, Tested,
    kube::{self, EXCLUDED},
    node::{Agent, Node},
    runtime::{Sandbox, call},
    scene::{Scene, who},
};

pub(crate) const LONG: &[Test] = &[
    (
        "soak_apiserver_tells_of_pods_and_takes_events",
        soak_apiserver_tells_of_pods_and_takes_events,
    ),
    (
        "soak_apiserver_is_asked_for_a_pod_by_the_plugin",
        soak_apiserver_is_asked_for_a_pod_by_the_plugin,
    ),
    (
        "soak_apiserver_forgets_and_all_is_listed_again",
        soak_apiserver_forgets_and_all_is_listed_again,
    ),
    (
        "soak_apiserver_ends_a_watch_and_the_next_one_goes_on",
        soak_apiserver_ends_a_watch_and_the_next_one_goes_on,
    ),
];

/// The agent's service account, as the API server calls it.
const AGENT: &str = "system:serviceaccount:kube-system:redirect-agent";
pub(crate) const PODS: &str = "/api/v1/namespaces/shop/pods";
/// Longer than a watch is left open.
const WATCH: Duration = Duration::from_mins(5);

/// A node, and the control plane that its agent asks.
struct Cluster {
    node: Node,
    plane: ControlPlane,
}

impl Cluster {
    /// With everything that is deployed in it.
    fn new(name: &str) -> Result<Self> {
        let plane = ControlPlane::start(name)?;
        let node = Node::new(name);
        fs::write(node.file("kubeconfig"), deploy(&plane)?)?;
        Ok(Self { node, plane })
    }

    fn start(&self) -> Agent {
        let config = self.node.file("kubeconfig").display().to_string();
        let socket = self.node.socket().display().to_string();
        let agent = self.node.start_with(&[
            "--source",
            "kube",
            "--node-name",
            "this",
            "--kubeconfig",
            &config,
            "--cni-socket",
            &socket,
        ]);
        agent.until_ready();
        agent
    }

    fn api(&self) -> Result<Api> {
        self.plane.administrator()
    }

    /// Makes a pod of the mesh on a node, or on none yet; its uid.
    fn put(&self, name: &str, node: Option<&str>) -> Result<String> {
        let mut pod = kube::pod(name, &json!({}));
        pod["metadata"]["uid"] = Value::Null;
        pod["spec"]["nodeName"] = node.into();
        let containers = pod["spec"]["containers"].as_array_mut();
        for container in containers.into_iter().flatten() {
            container["image"] = "registry.example.com/none".into();
        }
        let pod = self.api()?.create(&pod)?;
        let uid = pod["metadata"]["uid"].as_str().context("a uid")?;
        Ok(uid.to_owned())
    }

    /// A pod on the agent's node, and who is in it.
    fn scene(&self, name: &str) -> Result<Scene> {
        let uid = self.put(name, Some("this"))?;
        Scene::of(Pod::of_kubelet(name, &uid)?)
    }

    fn annotate(&self, name: &str, key: &str, value: &Value) -> Tested {
        let change = json!({"metadata": {"annotations": {(key): value}}});
        self.api()?.patch(&format!("{PODS}/{name}"), &change)?;
        Ok(())
    }

    /// As a kubelet does when nothing of the pod is left.
    fn delete(&self, name: &str) -> Tested {
        let path = format!("{PODS}/{name}?gracePeriodSeconds=0");
        self.api()?.delete(&path)?;
        Ok(())
    }

    fn events(&self, name: &str) -> Result<Vec<(String, String)>> {
        events(&self.api()?, name)
    }

    #[track_caller]
    fn until_events(&self, agent: &Agent, name: &str, count: usize) -> Vec<(String, String)> {
        let events = || self.events(name).unwrap_or_default();
        agent.until("the Event", || events().len() == count);
        events()
    }

    /// What the agent has asked, in that order.
    fn requests(&self) -> Vec<Value> {
        let mut requests = self.plane.audit(AGENT);
        requests.retain(|request| request["stage"] == "RequestReceived");
        requests
    }

    /// Paths and queries of its requests of one verb.
    fn asked(&self, verb: &str) -> Vec<String> {
        let asked = self.requests().into_iter();
        let asked = asked.filter(|asked| asked["verb"] == verb);
        asked.map(|asked| word(&asked["requestURI"])).collect()
    }
}

/// Puts everything into a cluster that is deployed there, and a namespace `shop`; tells the agent's kubeconfig.
pub(crate) fn deploy(plane: &ControlPlane) -> Result<String> {
    let administrator = plane.administrator()?;
    let shop = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}});
    administrator.create(&shop)?;
    for object in deployed()? {
        administrator.create(&object)?;
    }
    // What the kubelet puts into the agent's pod.
    let token = administrator.post(
        "/api/v1/namespaces/kube-system/serviceaccounts/redirect-agent/token",
        &json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"audiences": ["https://kubernetes.default.svc"], "expirationSeconds": 3600},
        }),
    )?;
    let token = token["status"]["token"].as_str().context("a token")?;
    Ok(plane.kubeconfig(token))
}

/// The reasons and the texts of a pod's Events, as `kubectl describe pod` finds them.
pub(crate) fn events(api: &Api, name: &str) -> Result<Vec<(String, String)>> {
    let pod = api.get(&format!("{PODS}/{name}"))?;
    let uid = pod["metadata"]["uid"].as_str().context("a uid")?;
    let about = format!("involvedObject.name%3D{name},involvedObject.uid%3D{uid}");
    let path = format!("/api/v1/namespaces/shop/events?fieldSelector={about}");
    let events = api.get(&path)?;
    let events = events["items"].as_array().into_iter().flatten();
    Ok(events
        .map(|event| (word(&event["reason"]), word(&event["message"])))
        .collect())
}

pub(crate) fn word(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Everything of `deploy/redirect-agent.yaml`.
fn deployed() -> Result<Vec<Value>> {
    documents("redirect-agent.yaml")
}

/// What there is in a file of `deploy`.
pub(crate) fn documents(name: &str) -> Result<Vec<Value>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = fs::read_to_string(root.join("deploy").join(name))?;
    let documents = text.split("\n---\n").map(serde_saphyr::from_str);
    Ok(documents.collect::<Result<_, _>>()?)
}

/// What the deployed role allows: verb and resource.
fn allowed() -> Result<BTreeSet<(String, String)>> {
    let objects = deployed()?;
    let mut roles = objects
        .iter()
        .filter(|object| object["kind"] == "ClusterRole");
    let role = roles.next().context("a role")?;
    ensure!(roles.next().is_none(), "there is another");
    let words =
        |list: &Value| -> Vec<String> { list.as_array().into_iter().flatten().map(word).collect() };
    let mut allowed = BTreeSet::new();
    for rule in role["rules"].as_array().into_iter().flatten() {
        for resource in words(&rule["resources"]) {
            let verbs = words(&rule["verbs"]).into_iter();
            allowed.extend(verbs.map(|verb| (verb, resource.clone())));
        }
    }
    Ok(allowed)
}

fn soak_apiserver_tells_of_pods_and_takes_events() -> Tested {
    let cluster = Cluster::new("api-tells")?;
    let shop = cluster.scene("web")?;
    // It is there, too; only the API server says whose it is.
    let uid = cluster.put("elsewhere", Some("other"))?;
    let elsewhere = Scene::of(Pod::of_kubelet("elsewhere", &uid)?)?;
    let agent = cluster.start();
    ensure!(shop.who()? == "old", "{}", agent.log());
    ensure!(elsewhere.who()? == "world");
    ensure!(cluster.until_events(&agent, "web", 1)[0].0 == "TrafficRedirected");

    let late = cluster.scene("late")?;
    agent.until("one that comes later", || late.is("old"));

    cluster.annotate("web", EXCLUDED, &json!("36.152.44.0/24"))?;
    agent.until("an edited annotation", || shop.is("world"));
    let events = cluster.until_events(&agent, "web", 2);
    ensure!(events[1].0 == "TrafficRedirectionChanged", "{events:?}");
    cluster.annotate("web", EXCLUDED, &json!("36.152.44.0"))?;
    let (reason, note) = cluster.until_events(&agent, "web", 3).remove(2);
    ensure!(reason == "TrafficRedirectionRefused");
    let says = format!("pod shop/web: annotation {EXCLUDED} \"36.152.44.0\": ");
    ensure!(note.starts_with(&says), "{note}");
    ensure!(shop.who()? == "world");

    agent.end(Signal::KILL);
    cluster.annotate("web", EXCLUDED, &Value::Null)?;
    ensure!(shop.who()? == "world" && late.who()? == "old");
    let agent = cluster.start();
    ensure!(shop.who()? == "old" && late.who()? == "old");
    let done = || agent.metric("redirect_agent_actions_total", &[]);
    ensure!(done() == 1, "{}", agent.log());

    // It is to end, and is redirected until it has.
    cluster.api()?.delete(&format!("{PODS}/late"))?;
    let late_now = cluster.api()?.get(&format!("{PODS}/late"))?;
    ensure!(late_now["metadata"]["deletionTimestamp"].is_string());
    // Whatever the agent has been told after it, it has been told this before.
    cluster.annotate("web", EXCLUDED, &json!("36.152.44.0/24"))?;
    agent.until("an edited annotation", || shop.is("world"));
    ensure!(late.who()? == "old");
    drop(late);
    cluster.delete("late")?;
    agent.until("let go", || cluster.node.pods().len() == 1);
    ensure!(agent.metric("redirect_agent_events_total", &["result=\"failed\""]) == 0);

    // One that has ended by itself is as good as deleted.
    let ended = json!({"status": {"phase": "Succeeded"}});
    cluster
        .api()?
        .patch(&format!("{PODS}/web/status"), &ended)?;
    agent.until("let go", || cluster.node.pods().is_empty());
    Ok(())
}

fn soak_apiserver_is_asked_for_a_pod_by_the_plugin() -> Tested {
    let cluster = Cluster::new("api-asked")?;
    let agent = cluster.start();
    // No watch of a node tells of a pod that is not on it yet.
    let uid = cluster.put("early", None)?;
    let pod = Pod::of_kubelet("early", &uid)?;
    let world = Scene::outside(&pod)?;
    let sandbox = Sandbox::of(&uid, &pod).named("early");
    let ran = call(&cluster.node, "ADD", &sandbox, &json!({}))?;
    ensure!(ran.is_added(), "{ran:?}: {}", agent.log());
    ensure!(who(&pod.worker(&Identity::app())?)? == "refused");
    let scene = Scene::inside(pod, world)?;
    ensure!(scene.who()? == "old");
    ensure!(cluster.asked("get") == [format!("{PODS}/early")]);
    let attached = cluster.node.pods();

    // The scheduler.
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding", "metadata": {"name": "early"},
        "target": {"apiVersion": "v1", "kind": "Node", "name": "this"},
    });
    cluster
        .api()?
        .post(&format!("{PODS}/early/binding"), &binding)?;
    agent.until("it is known", || {
        agent.metric("redirect_agent_workloads", &["source=\"kube\""]) == 1
    });
    ensure!(cluster.node.pods() == attached && scene.who()? == "old");
    cluster.annotate("early", EXCLUDED, &json!("36.152.44.0/24"))?;
    agent.until("an edited annotation", || scene.is("world"));
    cluster.until_events(&agent, "early", 2);

    // Another one of its name, and none.
    let other = Sandbox::of("00000000-0000-4000-8000-000000000000", &scene.pod);
    let (_, why) = call(&cluster.node, "CHECK", &other.named("early"), &json!({}))?.error()?;
    ensure!(why.contains(&uid), "{why}");
    let none = Sandbox::of(&uid, &scene.pod).named("nobody");
    let (_, why) = call(&cluster.node, "CHECK", &none, &json!({}))?.error()?;
    ensure!(why.contains("the API server has no such pod"), "{why}");

    // All that the role allows was asked, and nothing else.
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
    // Roles are heeded here.
    let as_agent = Api::new(&cluster.node.file("kubeconfig"))?;
    let refused = as_agent.get("/api/v1/namespaces/kube-system/secrets");
    let why = format!("{:#}", refused.err().context("an error")?);
    ensure!(why.contains(AGENT) && why.contains("forbidden"), "{why}");
    Ok(())
}

fn is_up(agent: &Agent) -> u64 {
    agent.metric("redirect_agent_source_up", &["source=\"kube\""])
}

/// Once by a server that has forgotten what was before its start, once by etcd.
fn soak_apiserver_forgets_and_all_is_listed_again() -> Tested {
    let mut cluster = Cluster::new("api-forgets")?;
    let shop = cluster.scene("web")?;
    let agent = cluster.start();
    ensure!(shop.who()? == "old");
    for (round, from) in [&[][..], &["--watch-cache=false"]].into_iter().enumerate() {
        let gone = cluster.scene(&format!("gone-{round}"))?;
        agent.until("the other one", || gone.is("old"));
        let lists = cluster.asked("list").len();

        cluster.plane.down();
        agent.until("trouble", || is_up(&agent) == 0);
        ensure!(shop.who()? == "old" && gone.who()? == "old");
        // It is not told of what happens now.
        agent.signal(Signal::STOP);
        cluster.plane.up(&[])?;
        let range = ["36.152.44.0/24", "36.152.0.0/16"][round];
        cluster.annotate("web", EXCLUDED, &json!(range))?;
        cluster.delete(&format!("gone-{round}"))?;
        cluster.plane.down();
        cluster.plane.compact()?;
        cluster.plane.up(from)?;
        ensure!(shop.who()? == "old" && gone.who()? == "old");
        agent.signal(Signal::CONT);

        agent.until("the edited annotation", || shop.is("world"));
        // Deleted with force, it is redirected until it has ended.
        ensure!(gone.who()? == "old");
        drop(gone);
        agent.until("let go", || cluster.node.pods().len() == 1);
        let listed = cluster.asked("list");
        let listed = listed.get(lists..).unwrap_or_default();
        let is_bounded = |list: &String| list.contains("resourceVersionMatch=NotOlderThan");
        ensure!(
            listed.len() == 1 && listed.iter().all(is_bounded),
            "{listed:?}"
        );
        ensure!(is_up(&agent) == 1);
        cluster.annotate("web", EXCLUDED, &Value::Null)?;
        agent.until("the watch after it", || shop.is("old"));
    }
    Ok(())
}

/// This takes the two to four minutes for which the agent asks.
fn soak_apiserver_ends_a_watch_and_the_next_one_goes_on() -> Tested {
    let cluster = Cluster::new("api-ends")?;
    let shop = cluster.scene("web")?;
    let agent = cluster.start();
    agent.until("the watch", || cluster.asked("watch").len() == 1);
    ensure!(wait_until(WATCH, || cluster.asked("watch").len() == 2));
    cluster.annotate("web", EXCLUDED, &json!("36.152.44.0/24"))?;
    agent.until("an edited annotation", || shop.is("world"));
    ensure!(cluster.asked("list").len() == 1, "{}", agent.log());
    ensure!(!agent.log().contains("\"WARN\""), "{}", agent.log());
    Ok(())
}
