//! The agent of `deploy/redirect-agent.yaml`, and its removal by `deploy/uninstall.yaml`, in pods that a
//! kubelet runs.
//!
//! The test stands for the controller of `DaemonSet`s, for the admission that mounts service account tokens,
//! and for the service address of the API server.

use std::{collections::BTreeSet, fs, path::PathBuf, sync::atomic::AtomicBool};

use anyhow::{Context as _, Result, ensure};
use redirect_testkit::{
    Flood,
    node::{IMAGE, Node},
    with_background,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::{
    cluster::{Cluster, MeshPod, is_ready},
    program::NODE,
};
use crate::{
    Tested,
    agent_process::BINARY,
    apiserver::{PODS, documents, events, word},
    containers::{
        mesh::{FAR, STATE_DIR, far},
        mesh_pod::Tally,
    },
    runtime::plugin,
};

const SYSTEM: &str = "/api/v1/namespaces/kube-system/pods";
const DAEMONSET: &str = "/apis/apps/v1/namespaces/kube-system/daemonsets/redirect-agent";
/// Address of the API server for pods: the first of the service range.
const SERVICE: &str = "10.96.0.1";
/// Mount point of service account tokens.
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Path of the mesh's defaults in the daemonset.
const MESH: &str = "/etc/redirect-agent/mesh.yaml";

/// Rules that a node's proxy makes for that service.
const PROXY: &str = "ip address add $0/32 dev lo
iptables -w -t nat -A OUTPUT -d $0/32 -p tcp --dport 443 -j DNAT --to-destination 127.0.0.1:$1";

/// A cluster with everything deployed, and with the images on its node.
struct Deployed(Cluster);

impl Deployed {
    fn new(name: &str) -> Result<Self> {
        let cluster = Cluster::new(name)?;
        let (node, plane) = (&cluster.mesh.node, &cluster.mesh.server);
        let port = plane.port().to_string();
        run(node, "sh", &["-ec", PROXY, SERVICE, &port])?;
        // Kubernetes creates this in every namespace.
        cluster.api()?.create(&json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "kube-root-ca.crt", "namespace": "kube-system"},
            "data": {"ca.crt": plane.authority()?},
        }))?;
        let agent = PathBuf::from(BINARY);
        let redirectctl = agent.with_file_name("redirectctl");
        let template = &cluster.api()?.get(DAEMONSET)?["spec"]["template"];
        let image = word(&template["spec"]["containers"][0]["image"]);
        let image = format!("docker.io/library/{image}");
        node.add_image(&image, &[agent, plugin()?, redirectctl])?;
        let pause = &documents("uninstall.yaml")?[0]["spec"]["template"]["spec"]["containers"][0];
        let deployed = Self(cluster);
        deployed.ctr(&["images", "tag", IMAGE, &word(&pause["image"])])?;
        Ok(deployed)
    }

    fn ctr(&self, args: &[&str]) -> Result<String> {
        let node = &self.0.mesh.node;
        let socket = node.runtime_socket().display().to_string();
        run(
            node,
            "ctr",
            &[&["-a", &socket, "-n", "k8s.io"], args].concat(),
        )
    }

    fn pod(&self, name: &str) -> Result<Value> {
        self.0.api()?.get(&format!("{SYSTEM}/{name}"))
    }

    /// Creates a pod from the current `DaemonSet`, and waits until it is ready.
    fn start(&self, name: &str) -> Tested {
        let mut pod = self.0.api()?.get(DAEMONSET)?["spec"]["template"].clone();
        pod["apiVersion"] = json!("v1");
        pod["kind"] = json!("Pod");
        pod["metadata"]["name"] = json!(name);
        pod["metadata"]["namespace"] = json!("kube-system");
        self.adapt(&mut pod)?;
        admit(&mut pod);
        self.0.api()?.create(&pod)?;
        self.until("it is ready", name, || {
            self.pod(name).is_ok_and(|pod| is_ready(&pod))
        })
    }

    /// Adapts a pod to the nested node, and to this version of Kubernetes.
    fn adapt(&self, pod: &mut Value) -> Tested {
        pod["spec"]["nodeName"] = json!(NODE);
        // The alternative of docs/kubernetes.md to `appArmorProfile`, which this API server has dropped.
        for (list, name) in [("containers", "agent"), ("initContainers", "cleanup")] {
            let containers = pod["spec"][list].as_array().into_iter().flatten();
            if containers
                .map(|found| &found["name"])
                .any(|found| found == name)
            {
                let key = format!("container.apparmor.security.beta.kubernetes.io/{name}");
                pod["metadata"]["annotations"][key] = json!("unconfined");
            }
        }
        let node = &self.0.mesh.node;
        // The values `cni.confDir` and `cni.binDir` of the chart: all other files are the machine's.
        for (name, path) in [
            ("cni-conf", node.network_folder()),
            ("cni-bin", node.plugin_folder()),
        ] {
            let mut volumes = pod["spec"]["volumes"].as_array_mut().into_iter().flatten();
            let volume = volumes.find(|volume| volume["name"] == name);
            volume.context("a volume")?["hostPath"]["path"] = json!(path);
        }
        Ok(())
    }

    /// Has the kubelet end a pod.
    fn end(&self, name: &str) -> Tested {
        self.0.api()?.delete(&format!("{SYSTEM}/{name}"))?;
        self.until("it is gone", name, || self.pod(name).is_err())
    }

    fn until(&self, what: &str, name: &str, holds: impl FnMut() -> bool) -> Tested {
        self.0
            .until(what, holds)
            .with_context(|| self.logs(name).unwrap_or_default())
    }

    /// Logs of a pod's containers, and its status.
    fn logs(&self, name: &str) -> Result<String> {
        let pod = self.pod(name)?;
        let mut output = pod["status"].to_string();
        let folder = format!("kube-system_{name}_{}", word(&pod["metadata"]["uid"]));
        let logs = self.0.mesh.node.path("/var/log/pods").join(folder);
        for container in fs::read_dir(logs)? {
            for log in fs::read_dir(container?.path())? {
                let log = log?.path();
                output.extend(["\n", &log.to_string_lossy(), ":\n"]);
                output += &fs::read_to_string(&log)?;
            }
        }
        Ok(output)
    }

    /// Runs a program in the agent's container, as `kubectl exec` does. Returns its output.
    fn exec(&self, name: &str, args: &[&str]) -> Result<String> {
        let (id, _) = self.agent(name)?;
        self.ctr(&[&["tasks", "exec", "--exec-id", "asked", &id], args].concat())
    }

    /// Id of the agent's container, and its process.
    fn agent(&self, name: &str) -> Result<(String, Pid)> {
        let pod = self.pod(name)?;
        let id = word(&status(&pod, "agent")["containerID"]);
        let id = id.trim_start_matches("containerd://");
        let tasks = self.ctr(&["tasks", "ls"])?;
        let mut tasks = tasks.lines().map(str::split_ascii_whitespace);
        let mut task = tasks
            .find_map(|mut words| (words.next() == Some(id)).then_some(words))
            .context("no agent")?;
        let pid = task.next().context("a process id")?.parse()?;
        Ok((id.to_owned(), Pid::from_raw(pid).context("a process id")?))
    }

    /// Checks the agent's privileges, as the runtime and the kernel apply them.
    fn confined(&self, name: &str) -> Tested {
        let (_, pid) = self.agent(name)?;
        let output = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let value = |key: &str| {
            let mut lines = output.lines().filter_map(|line| line.split_once(':'));
            lines.find_map(|(found, value)| (found == key).then(|| value.trim().to_owned()))
        };
        // CAP_SYS_PTRACE and CAP_SYS_ADMIN; no_new_privs; a seccomp filter.
        let wanted = [
            ("CapEff", format!("{:016x}", 1 << 19 | 1 << 21)),
            ("CapBnd", format!("{:016x}", 1 << 19 | 1 << 21)),
            ("NoNewPrivs", "1".to_owned()),
            ("Seccomp", "2".to_owned()),
        ];
        for (key, wanted) in wanted {
            ensure!(value(key).as_ref() == Some(&wanted), "{key}: {output}");
        }
        Ok(())
    }

    /// Types of the plugins in the network configuration.
    fn plugins(&self) -> Result<Vec<String>> {
        let list = self.0.mesh.node.network_folder().join("10-pods.conflist");
        let list: Value = serde_json::from_str(&fs::read_to_string(list)?)?;
        let plugins = list["plugins"].as_array().into_iter().flatten();
        Ok(plugins.map(|plugin| word(&plugin["type"])).collect())
    }

    fn has_plugin(&self) -> bool {
        self.0
            .mesh
            .node
            .plugin_folder()
            .join("redirect-cni")
            .exists()
    }
}

/// Status of a container of a pod.
fn status<'pod>(pod: &'pod Value, container: &str) -> &'pod Value {
    let all = pod["status"]["containerStatuses"].as_array();
    let mut all = all.into_iter().flatten();
    all.find(|status| status["name"] == container)
        .unwrap_or(&Value::Null)
}

/// Mounts a service account token, as the API server's admission does.
fn admit(pod: &mut Value) {
    let spec = &mut pod["spec"];
    if spec["automountServiceAccountToken"] != true {
        return;
    }
    for container in spec["containers"].as_array_mut().into_iter().flatten() {
        if let Some(mounts) = container["volumeMounts"].as_array_mut() {
            mounts.push(json!({"name": "token", "mountPath": TOKEN, "readOnly": true}));
        }
    }
    let token = json!({"path": "token", "expirationSeconds": 3607});
    let authority =
        json!({"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]});
    let namespace = json!([{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]);
    if let Some(volumes) = spec["volumes"].as_array_mut() {
        volumes.push(json!({"name": "token", "projected": {"sources": [
            {"serviceAccountToken": token}, {"configMap": authority},
            {"downwardAPI": {"items": namespace}},
        ]}}));
    }
}

fn run(node: &Node, program: &str, args: &[&str]) -> Result<String> {
    let done = node.command(program).args(args).output()?;
    let [output, errors] =
        [done.stdout, done.stderr].map(|output| String::from_utf8_lossy(&output).into_owned());
    ensure!(
        done.status.success(),
        "{program} {args:?}: {}: {output}{errors}",
        done.status
    );
    Ok(output)
}

impl MeshPod<'_> {
    /// Floods from the pod while `act` runs.
    fn under_load<T>(&mut self, act: impl FnOnce() -> Result<T>) -> Result<(T, Tally)> {
        let flood = Flood::new(FAR, [far()], 50).concurrency(2).speaking_first();
        let app = &self.app;
        let flood = |is_over: &AtomicBool| Tally::of(&app.flood_until(&flood, is_over)?);
        let (done, tallies) = with_background([flood], act)?;
        let tally = tallies.into_iter().next().context("a tally")?;
        self.tally += tally;
        Ok((done, tally))
    }
}

/// Runs the commands of docs/kubernetes.md, some of them about one pod.
fn ask(deployed: &Deployed, agent: &str, uid: &str) -> Tested {
    let doctor = ["redirectctl", "--bpffs", STATE_DIR, "doctor"];
    let plan = ["redirect-agent", "plan", "--source", "kube", "--mesh", MESH];
    for (command, answer) in [
        (&["redirectctl", "--bpffs", STATE_DIR, "list"][..], uid),
        (
            &["redirectctl", "--bpffs", STATE_DIR, "status"],
            "1 attached",
        ),
        (&doctor, "everything required is there"),
        (&plan, uid),
    ] {
        let output = deployed.exec(agent, command)?;
        ensure!(output.contains(answer), "{command:?}: {output}");
    }
    Ok(())
}

/// Replaces `agent-2` by the pod of `uninstall.yaml`, and checks that everything is as `before` any agent.
fn uninstall(
    deployed: &Deployed,
    mut shop: MeshPod<'_>,
    before: &(BTreeSet<PathBuf>, Vec<String>),
) -> Tested {
    let cluster = &deployed.0;
    let mesh = &cluster.mesh;
    let uninstall = documents("uninstall.yaml")?.remove(0);
    cluster.api()?.patch(DAEMONSET, &uninstall)?;
    let ((), tally) = shop.under_load(|| {
        deployed.end("agent-2")?;
        deployed.start("uninstall")
    })?;
    ensure!(tally.refused == 0, "{tally:?}");
    ensure!(shop.dial()?.direct == 1, "it is still redirected");
    mesh.node.wait_for_plugin("redirect-cni", false)?;
    let after = (mesh.pins()?, deployed.plugins()?);
    ensure!(after == *before, "{after:?}, {before:?}");
    ensure!(!deployed.has_plugin());

    // A pod that starts now is not redirected.
    let worker_socket = cluster.worker_socket()?;
    cluster.create("later", &worker_socket)?;
    let (_worker, dialled) = worker_socket.accept_app("later")?;
    let later = Tally::of_outcome(&dialled.outcome)?;
    ensure!(later.direct == 1, "{dialled:?}");
    let mut total = shop.tally;
    total += later;
    mesh.check_world_counts(total)?;
    for name in ["web", "later"] {
        cluster.api()?.delete(&format!("{PODS}/{name}"))?;
    }
    deployed.end("uninstall")?;
    cluster.until("nothing is left", || {
        mesh.node.pod_resources().is_ok_and(|left| left.is_empty())
    })
}

pub(super) fn soak_kubelet_runs_the_agent_as_it_is_deployed() -> Tested {
    let deployed = Deployed::new("deployed")?;
    let cluster = &deployed.0;
    let mesh = &cluster.mesh;
    let before = (mesh.pins()?, deployed.plugins()?);
    ensure!(!deployed.has_plugin());

    deployed.start("agent-1")?;
    deployed.confined("agent-1")?;
    mesh.node.wait_for_plugin("redirect-cni", true)?;
    ensure!(deployed.has_plugin());
    let worker_socket = cluster.worker_socket()?;
    let uid = cluster.create("web", &worker_socket)?;
    let mut shop = cluster.shop("web", &uid, &worker_socket)?;
    deployed.until("the Event", "agent-1", || {
        let events = cluster.api().and_then(|api| events(&api, "web"));
        events.is_ok_and(|events| {
            events
                .iter()
                .any(|(reason, _)| reason == "TrafficRedirected")
        })
    })?;
    ask(&deployed, "agent-1", &uid)?;

    // The agent crashes, and another one replaces it.
    let ((), tally) = shop.under_load(|| {
        kill_process(deployed.agent("agent-1")?.1, Signal::KILL)?;
        deployed.until("it is restarted", "agent-1", || {
            let pod = deployed.pod("agent-1").unwrap_or_default();
            status(&pod, "agent")["restartCount"] == 1 && is_ready(&pod)
        })?;
        deployed.end("agent-1")?;
        deployed.start("agent-2")
    })?;
    ensure!(
        (tally.direct, tally.refused) == (0, 0) && tally.proxied > 0,
        "{tally:?}"
    );
    shop.check_counts()?;

    uninstall(&deployed, shop, &before)
}
