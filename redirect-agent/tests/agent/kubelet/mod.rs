//! The agent and its plugin on a node with a real kubelet, which a real API server tells what to run.
//!
//! The scheduler is the test: it makes pods with the node's name in them.

mod deployed;
mod program;

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use redirect_testkit::{
    Dial, EnvoyStats, Flood, Worker, cases,
    node::{IMAGE, Program, WorkerSocket},
    wait_until,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use self::program::{Kubelet, NODE};
use crate::{
    Cases, Needs, Tested,
    apiserver::{
        PODS,
        api::Api,
        control_plane::{ControlPlane, TOKEN},
        deploy, events, word,
    },
    containers::{
        mesh::{FAR, LATE, Mesh},
        shop::{Account, first, redirected},
    },
    kube::EXCLUDED,
    node::Agent,
};

pub(crate) const SOAKS: &[Cases] = cases! {
    Needs::Containers => [
        soak_kubelet_runs_a_pod_from_its_first_instruction_to_its_last,
        soak_kubelet_waits_for_the_agent,
        soak_kubelet_runs_a_pod_of_a_file,
        deployed::soak_kubelet_runs_the_agent_as_it_is_deployed,
    ],
};

/// Kubelets collect once a minute what is left of pods, and wait for up to five before they start a container again.
const PATIENCE: Duration = Duration::from_mins(6);
/// The server's address, without its port.
const SERVER: &str = "36.152.44.96/32";

/// A node whose kubelet is told by an API server what to run.
struct Cluster {
    kubelet: Kubelet,
    // After whoever lives there.
    mesh: Mesh<ControlPlane>,
}

/// A pod of the mesh, with its application.
struct Shop<'cluster> {
    cluster: &'cluster Cluster,
    /// What the API server calls it.
    name: String,
    cgroup: PathBuf,
    app: Worker,
    account: Account,
}

impl Cluster {
    fn new(name: &str) -> Result<Self> {
        let mesh = Mesh::asking(name, |node| {
            let plane = ControlPlane::within(name, node.name())?;
            let kubeconfig = deploy(&plane)?;
            Ok((plane, kubeconfig))
        })?;
        let kubelet = Kubelet::start(&mesh.node, &mesh.server.kubeconfig(TOKEN))?;
        Ok(Self { kubelet, mesh })
    }

    fn api(&self) -> Result<Api> {
        self.mesh.server.administrator()
    }

    /// What runs in the application's container, which dials first.
    fn worker_socket(&self) -> Result<WorkerSocket> {
        self.mesh.node.worker_socket(&first())
    }

    fn pod(&self, name: &str) -> Result<Value> {
        self.api()?.get(&format!("{PODS}/{name}"))
    }

    fn until(&self, what: &str, holds: impl FnMut() -> bool) -> Tested {
        let is_so = wait_until(PATIENCE, holds);
        ensure!(is_so, "{what}: {}", self.kubelet.log());
        Ok(())
    }

    /// Waits for the application of a pod, and for its sidecar. `uid` is what the kubelet calls it.
    fn shop(&self, name: &str, uid: &str, worker_socket: &WorkerSocket) -> Result<Shop<'_>> {
        let begun = worker_socket.accept_app(name);
        let (app, dialled) = begun.with_context(|| self.kubelet.log())?;
        let account = Account::of_one(&dialled.outcome)?;
        ensure!(account.direct == 0, "at its first instruction: {dialled:?}");
        self.until("Envoy starts", || EnvoyStats::of(&app).is_ok())?;
        let cgroup = format!("kubepods/besteffort/pod{uid}");
        let mut shop = Shop {
            cluster: self,
            name: name.to_owned(),
            cgroup: self.mesh.node.cgroup().join(cgroup),
            app,
            account,
        };
        ensure!(shop.dial()?.proxied == 1);
        self.until("it is ready", || {
            is_ready(&self.pod(name).unwrap_or_default())
        })?;
        shop.audit()?;
        Ok(shop)
    }

    /// Makes a pod; its uid.
    fn create(&self, name: &str, worker_socket: &WorkerSocket) -> Result<String> {
        let pod = self.api()?.create(&pod(name, worker_socket, &json!({}))?)?;
        Ok(word(&pod["metadata"]["uid"]))
    }

    /// Waits until the API server knows a pod no more, and nothing of any is left.
    fn until_gone(&self, name: &str, agent: &Agent) -> Tested {
        self.until("the API server forgets it", || self.pod(name).is_err())?;
        let mut left = Vec::new();
        let is_clean = wait_until(PATIENCE, || {
            left = self.mesh.node.pod_resources().unwrap_or_default();
            left.is_empty()
        });
        ensure!(is_clean, "{left:?}");
        self.mesh.until_nobody_is_left(agent)
    }
}

impl Shop<'_> {
    /// One more connection.
    fn dial(&mut self) -> Result<Account> {
        let account = Account::of_one(&self.app.dial(&first())?.outcome)?;
        self.account += account;
        Ok(account)
    }

    /// Compares what the application has seen with what the programs have counted.
    fn audit(&self) -> Tested {
        let hits = self.cluster.mesh.hits(&self.cgroup)?;
        let hits = hits.with_context(|| format!("{} is not attached", self.cgroup.display()))?;
        let out = self.account.proxied + self.account.refused;
        ensure!(redirected(&hits) == out, "{hits:?}, {:?}", self.account);
        Ok(())
    }

    /// Ends the application's container, and waits for the one that the kubelet starts in its place.
    fn restart(&mut self, worker_socket: &WorkerSocket) -> Tested {
        let pid = Pid::from_raw(self.app.pid().cast_signed()).context("a process")?;
        kill_process(pid, Signal::KILL)?;
        let (app, dialled) = worker_socket.accept_app(&self.name)?;
        self.app = app;
        let account = Account::of_one(&dialled.outcome)?;
        self.account += account;
        ensure!(account.proxied == 1, "after it was restarted: {dialled:?}");
        let restarts = || {
            let pod = self.cluster.pod(&self.name).unwrap_or_default();
            let containers = pod["status"]["containerStatuses"].as_array().into_iter();
            let counts = containers.flatten().map(|status| &status["restartCount"]);
            counts.filter_map(Value::as_u64).sum::<u64>()
        };
        self.cluster.until("it is told", || restarts() == 1)?;
        self.audit()
    }

    /// Has the pod ended by the kubelet while the application dials all the time, and waits until nothing of it is
    /// left.
    fn close(self, agent: &Agent, end: impl FnOnce() -> Tested) -> Result<Account> {
        self.audit()?;
        let late = Dial::to(LATE.parse()?).send("\n");
        let dialled = self.app.dial(&late)?;
        ensure!(dialled.orig_dst() == Some(LATE.parse()?), "{dialled:?}");
        let flood = Flood::new(LATE, [LATE.parse()?], 100)
            .concurrency(2)
            .speaking_first();
        let has_failed = AtomicBool::new(false);
        thread::scope(|scope| {
            // Until it is killed, which breaks its line; or until that has failed.
            let dialling = scope.spawn(|| self.app.flood_until(&flood, &has_failed));
            let ended = end().and_then(|()| self.cluster.until_gone(&self.name, agent));
            has_failed.store(ended.is_err(), Ordering::Relaxed);
            let broken = dialling.join().map_err(|_panic| anyhow!("a panic"))?;
            ensure!(
                ended.is_err() || broken.is_err(),
                "it was not killed: {broken:?}"
            );
            ended
        })?;
        ensure!(self.cluster.mesh.accepted(LATE)?.direct() == 0);
        Ok(self.account)
    }
}

/// Whether the kubelet says so of a pod.
fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().into_iter();
    let is_ready =
        |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
    pod["status"]["phase"] == "Running" && conditions.flatten().any(is_ready)
}

/// A pod of the mesh whose sidecar is started before the application, which does not wait for it.
fn pod(name: &str, app: &WorkerSocket, annotations: &Value) -> Result<Value> {
    let programs = [
        ("istio-proxy", &Program::sidecar()?),
        ("app", app.program()),
    ];
    let mut volumes = Vec::new();
    let containers = programs.map(|(name, program)| {
        let mounts = program
            .mounts
            .iter()
            .enumerate()
            .map(|(number, (from, to))| {
                let volume = format!("{name}-{number}");
                volumes.push(json!({"name": volume, "hostPath": {"path": from}}));
                json!({"name": volume, "mountPath": to, "readOnly": true})
            });
        let mounts = mounts.collect::<Vec<_>>();
        json!({
            "name": name, "image": IMAGE, "imagePullPolicy": "Never", "command": program.argv,
            "volumeMounts": mounts,
            "securityContext": {"runAsUser": program.uid, "runAsGroup": program.uid},
        })
    });
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "shop", "annotations": annotations},
        "spec": {
            "nodeName": NODE, "containers": containers, "volumes": volumes,
            "terminationGracePeriodSeconds": 3, "tolerations": [{"operator": "Exists"}],
        },
    });
    pod["metadata"]["annotations"]["sidecar.istio.io/status"] = json!("{}");
    Ok(pod)
}

fn soak_kubelet_runs_a_pod_from_its_first_instruction_to_its_last() -> Tested {
    let cluster = Cluster::new("kubelet")?;
    let agent = cluster.mesh.guarded()?;
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
    shop.audit()?;
    shop.restart(&worker_socket)?;

    let account = shop.close(&agent, || {
        let path = format!("{PODS}/web");
        cluster.api()?.delete(&path)?;
        ensure!(cluster.pod("web")?["metadata"]["deletionTimestamp"].is_string());
        Ok(())
    })?;
    ensure!(account.direct == 2 && account.proxied >= 3, "{account:?}");
    cluster.mesh.balance(account)
}

fn soak_kubelet_waits_for_the_agent() -> Tested {
    let cluster = Cluster::new("waits")?;
    let agent = cluster.mesh.guarded()?;
    ensure!(agent.end(Signal::KILL).is_none());
    let worker_socket = cluster.worker_socket()?;
    let uid = cluster.create("web", &worker_socket)?;
    cluster.until("it tries in vain", || {
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
    let account = shop.close(&agent, || {
        cluster.api()?.delete(&format!("{PODS}/web"))?;
        Ok(())
    })?;
    cluster.mesh.balance(account)
}

fn soak_kubelet_runs_a_pod_of_a_file() -> Tested {
    let cluster = Cluster::new("file")?;
    let agent = cluster.mesh.guarded()?;
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
    let mut total = shop.account;

    // Other pods of the same name take its place.
    let change = |ranges: &str| -> Result<String> {
        let before = hash();
        let text = pod("web", &worker_socket, &json!({(EXCLUDED): ranges}))?.to_string();
        cluster.kubelet.give("web.yaml", Some(&text))?;
        cluster.until("its mirror", || !["", &before].contains(&hash().as_str()))?;
        Ok(hash())
    };
    change(SERVER)?;
    // Its container would end with it, and be started again.
    let (_worker, dialled) = worker_socket.accept_app(&name)?;
    let account = Account::of_one(&dialled.outcome)?;
    ensure!(account.direct == 1, "what its file excludes: {dialled:?}");
    total += account;
    let shop = cluster.shop(&name, &change("10.0.0.0/8")?, &worker_socket)?;
    total += shop.close(&agent, || cluster.kubelet.give("web.yaml", None))?;
    cluster.mesh.balance(total)
}
