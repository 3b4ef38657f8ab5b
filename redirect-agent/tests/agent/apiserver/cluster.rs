//! A cluster of one node: an agent, and a real API server with the roles of `deploy/redirect-agent.yaml`.
//!
//! No other part of a control plane runs: the test binds and deletes pods as scheduler and kubelet do.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use redirect_testkit::Pod;
use serde_json::{Value, json};

use super::{api::Api, control_plane::ControlPlane};
use crate::{Tested, agent_process::Agent, kube, node::Node, scene::Scene};

/// Name of the agent's service account on the API server.
pub(super) const AGENT: &str = "system:serviceaccount:kube-system:redirect-agent";
pub(crate) const PODS: &str = "/api/v1/namespaces/shop/pods";
/// A node, and the control plane of its agent.
pub(super) struct Cluster {
    pub(super) node: Node,
    pub(super) plane: ControlPlane,
}

impl Cluster {
    /// A cluster with everything deployed in it.
    pub(super) fn new(name: &str) -> Result<Self> {
        let plane = ControlPlane::start(name)?;
        let node = Node::new(name);
        fs::write(node.file("kubeconfig"), deploy(&plane)?)?;
        Ok(Self { node, plane })
    }

    pub(super) fn start(&self) -> Agent {
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

    pub(super) fn api(&self) -> Result<Api> {
        self.plane.administrator()
    }

    /// Creates a pod of the mesh on a node, or on none yet. Returns its uid.
    pub(super) fn put(&self, name: &str, node: Option<&str>) -> Result<String> {
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

    /// Creates a pod on the agent's node, and its processes.
    pub(super) fn scene(&self, name: &str) -> Result<Scene> {
        let uid = self.put(name, Some("this"))?;
        Scene::of(Pod::in_kubepods(name, &uid)?)
    }

    pub(super) fn annotate(&self, name: &str, key: &str, value: &Value) -> Tested {
        let change = json!({"metadata": {"annotations": {(key): value}}});
        self.api()?.patch(&format!("{PODS}/{name}"), &change)?;
        Ok(())
    }

    /// Deletes a pod, as a kubelet does when all its processes have ended.
    pub(super) fn delete(&self, name: &str) -> Tested {
        let path = format!("{PODS}/{name}?gracePeriodSeconds=0");
        self.api()?.delete(&path)?;
        Ok(())
    }

    fn events(&self, name: &str) -> Result<Vec<(String, String)>> {
        events(&self.api()?, name)
    }

    #[track_caller]
    pub(super) fn until_events(
        &self,
        agent: &Agent,
        name: &str,
        count: usize,
    ) -> Vec<(String, String)> {
        let events = || self.events(name).unwrap_or_default();
        agent.until("the Event", || events().len() == count);
        events()
    }

    /// Requests of the agent, in their order.
    pub(super) fn requests(&self) -> Vec<Value> {
        let mut requests = self.plane.audit(AGENT);
        requests.retain(|request| request["stage"] == "RequestReceived");
        requests
    }

    /// Paths and queries of the agent's requests with this verb.
    pub(super) fn requests_of(&self, verb: &str) -> Vec<String> {
        let requests = self.requests().into_iter();
        let requests = requests.filter(|request| request["verb"] == verb);
        requests
            .map(|request| word(&request["requestURI"]))
            .collect()
    }
}

/// Deploys everything in a cluster, with a namespace `shop`. Returns the agent's kubeconfig.
pub(crate) fn deploy(plane: &ControlPlane) -> Result<String> {
    let administrator = plane.administrator()?;
    let shop = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}});
    administrator.create(&shop)?;
    for object in deployed()? {
        administrator.create(&object)?;
    }
    // The kubelet mounts this token into the agent's pod.
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

/// Reasons and texts of a pod's Events, as `kubectl describe pod` finds them.
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

/// All documents of `deploy/redirect-agent.yaml`.
fn deployed() -> Result<Vec<Value>> {
    documents("redirect-agent.yaml")
}

/// The documents of a file of `deploy`.
pub(crate) fn documents(name: &str) -> Result<Vec<Value>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = fs::read_to_string(root.join("deploy").join(name))?;
    let documents = text.split("\n---\n").map(serde_saphyr::from_str);
    Ok(documents.collect::<Result<_, _>>()?)
}

/// Verbs and resources that the deployed role allows.
pub(super) fn allowed() -> Result<BTreeSet<(String, String)>> {
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
