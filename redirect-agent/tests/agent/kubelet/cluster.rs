//! A cluster of one node: a real kubelet with the agent and its plugin, and a real API server.
//!
//! The test acts as the scheduler: it creates pods with the node's name in them.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use redirect_testkit::{
    Dial, EnvoyStats, Flood, Worker,
    node::{IMAGE, Program, WorkerSocket},
    wait_until,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::program::{Kubelet, NODE};
use crate::{
    Tested,
    agent_process::Agent,
    apiserver::{
        PODS,
        api::Api,
        control_plane::{ControlPlane, TOKEN},
        deploy, word,
    },
    containers::{
        mesh::{LATE, Mesh},
        mesh_pod::{Tally, first, redirected},
    },
};

/// Longer than any wait of these tests: kubelets collect dead pods once a minute, and wait for up to five
/// minutes before they restart a container.
const LIMIT: Duration = Duration::from_mins(6);
/// A node whose kubelet is controlled by an API server.
pub(super) struct Cluster {
    pub(super) kubelet: Kubelet,
    // Dropped after the kubelet, which runs in it.
    pub(super) mesh: Mesh<ControlPlane>,
}

/// A pod of the mesh, with its application.
pub(super) struct MeshPod<'cluster> {
    cluster: &'cluster Cluster,
    /// Name on the API server.
    name: String,
    cgroup: PathBuf,
    pub(super) app: Worker,
    pub(super) tally: Tally,
}

impl Cluster {
    pub(super) fn new(name: &str) -> Result<Self> {
        let mesh = Mesh::with_server(name, |node| {
            let plane = ControlPlane::in_netns(name, node.name())?;
            let kubeconfig = deploy(&plane)?;
            Ok((plane, kubeconfig))
        })?;
        let kubelet = Kubelet::start(&mesh.node, &mesh.server.kubeconfig(TOKEN))?;
        Ok(Self { kubelet, mesh })
    }

    pub(super) fn api(&self) -> Result<Api> {
        self.mesh.server.administrator()
    }

    /// The program of the application's container, which dials first.
    pub(super) fn worker_socket(&self) -> Result<WorkerSocket> {
        self.mesh.node.worker_socket(&first())
    }

    pub(super) fn pod(&self, name: &str) -> Result<Value> {
        self.api()?.get(&format!("{PODS}/{name}"))
    }

    pub(super) fn until(&self, what: &str, holds: impl FnMut() -> bool) -> Tested {
        let is_so = wait_until(LIMIT, holds);
        ensure!(is_so, "{what}: {}", self.kubelet.log());
        Ok(())
    }

    /// Waits for the application of a pod, and for its sidecar. `uid` is the kubelet's.
    pub(super) fn shop(
        &self,
        name: &str,
        uid: &str,
        worker_socket: &WorkerSocket,
    ) -> Result<MeshPod<'_>> {
        let begun = worker_socket.accept_app(name);
        let (app, dialled) = begun.with_context(|| self.kubelet.log())?;
        let tally = Tally::of_outcome(&dialled.outcome)?;
        ensure!(tally.direct == 0, "at its first instruction: {dialled:?}");
        self.until("Envoy starts", || EnvoyStats::of(&app).is_ok())?;
        let cgroup = format!("kubepods/besteffort/pod{uid}");
        let mut shop = MeshPod {
            cluster: self,
            name: name.to_owned(),
            cgroup: self.mesh.node.cgroup().join(cgroup),
            app,
            tally,
        };
        ensure!(shop.dial()?.proxied == 1);
        self.until("it is ready", || {
            is_ready(&self.pod(name).unwrap_or_default())
        })?;
        shop.check_counts()?;
        Ok(shop)
    }

    /// Creates a pod. Returns its uid.
    pub(super) fn create(&self, name: &str, worker_socket: &WorkerSocket) -> Result<String> {
        let pod = self.api()?.create(&pod(name, worker_socket, &json!({}))?)?;
        Ok(word(&pod["metadata"]["uid"]))
    }

    /// Waits until the API server has deleted a pod, and no trace of any is left.
    fn until_gone(&self, name: &str, agent: &Agent) -> Tested {
        self.until("the API server deletes it", || self.pod(name).is_err())?;
        let mut left = Vec::new();
        let is_clean = wait_until(LIMIT, || {
            left = self.mesh.node.pod_resources().unwrap_or_default();
            left.is_empty()
        });
        ensure!(is_clean, "{left:?}");
        self.mesh.until_all_detached(agent)
    }
}

impl MeshPod<'_> {
    /// Dials once more.
    pub(super) fn dial(&mut self) -> Result<Tally> {
        let tally = Tally::of_outcome(&self.app.dial(&first())?.outcome)?;
        self.tally += tally;
        Ok(tally)
    }

    /// Compares the tally with the counters of the programs.
    pub(super) fn check_counts(&self) -> Tested {
        let hits = self.cluster.mesh.hits(&self.cgroup)?;
        let hits = hits.with_context(|| format!("{} is not attached", self.cgroup.display()))?;
        let out = self.tally.proxied + self.tally.refused;
        ensure!(redirected(&hits) == out, "{hits:?}, {:?}", self.tally);
        Ok(())
    }

    /// Kills the application's container, and waits for the one that the kubelet starts in its place.
    pub(super) fn restart(&mut self, worker_socket: &WorkerSocket) -> Tested {
        let pid = Pid::from_raw(self.app.pid().cast_signed()).context("a process")?;
        kill_process(pid, Signal::KILL)?;
        let (app, dialled) = worker_socket.accept_app(&self.name)?;
        self.app = app;
        let tally = Tally::of_outcome(&dialled.outcome)?;
        self.tally += tally;
        ensure!(tally.proxied == 1, "after it was restarted: {dialled:?}");
        let restarts = || {
            let pod = self.cluster.pod(&self.name).unwrap_or_default();
            let containers = pod["status"]["containerStatuses"].as_array().into_iter();
            let counts = containers.flatten().map(|status| &status["restartCount"]);
            counts.filter_map(Value::as_u64).sum::<u64>()
        };
        self.cluster
            .until("the API server has the restart", || restarts() == 1)?;
        self.check_counts()
    }

    /// Has the kubelet end the pod while the application dials without a pause, and waits until no trace of
    /// it is left.
    pub(super) fn stop(self, agent: &Agent, end: impl FnOnce() -> Tested) -> Result<Tally> {
        self.check_counts()?;
        let late = Dial::to(LATE.parse()?).send("\n");
        let dialled = self.app.dial(&late)?;
        ensure!(dialled.orig_dst() == Some(LATE.parse()?), "{dialled:?}");
        let flood = Flood::new(LATE, [LATE.parse()?], 100)
            .concurrency(2)
            .speaking_first();
        let has_failed = AtomicBool::new(false);
        thread::scope(|scope| {
            // The flood ends when its process is killed, or when killing it has failed.
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
        Ok(self.tally)
    }
}

/// Whether the kubelet reports a pod as ready.
pub(super) fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().into_iter();
    let is_ready =
        |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
    pod["status"]["phase"] == "Running" && conditions.flatten().any(is_ready)
}

/// A pod of the mesh. Its sidecar starts before the application, which does not wait for it.
pub(super) fn pod(name: &str, app: &WorkerSocket, annotations: &Value) -> Result<Value> {
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
