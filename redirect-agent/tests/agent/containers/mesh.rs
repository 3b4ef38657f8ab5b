//! A node of a mesh: a real container runtime, an API server, and a world outside that counts its
//! connections.
use std::{
    collections::BTreeSet,
    fs,
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use redirect_common::abi::Hits;
use redirect_fake_apiserver::ApiServer;
use redirect_testkit::{
    AcceptedCounts, Behaviour, Identity, Serve, Worker, in_netns,
    node::{Node, PodName, Sandbox},
    wait_until,
};
use redirect_user::{
    bpf::{Maps, Pins},
    node::Reader,
    sys::cgroup::Cgroup,
};
use serde_json::{Value, json};

use super::mesh_pod::Tally;
use crate::{
    Tested,
    agent_process::{Agent, BINARY, DYING, RUN},
    kube::pod,
    runtime::plugin,
};

/// Address of the world for counted connections.
pub(crate) const FAR: &str = "36.152.44.96:9000";
/// Address of the world for applications that are killed while they dial.
pub(crate) const LATE: &str = "36.152.44.96:9001";
/// The default state directory of an agent.
pub(crate) const STATE_DIR: &str = "/sys/fs/bpf/redirect-agent";
const SOCKET: &str = "/run/redirect-agent/cni.sock";
/// Attempts to create a sandbox; kubelets retry forever.
const ATTEMPTS: u32 = 100;

pub(crate) fn far() -> SocketAddr {
    FAR.parse().unwrap()
}

/// A node of a mesh. `Server` is the API server of its agent.
pub(crate) struct Mesh<Server = ApiServer> {
    pub(crate) server: Server,
    world: Worker,
    /// Sandboxes that were not created, because there was no agent.
    pub(crate) retries: AtomicU64,
    // Dropped last: everything else is in it.
    pub(crate) node: Node,
}

impl Mesh {
    /// A node whose `name` is unique among the tests.
    pub(crate) fn new(name: &str) -> Result<Self> {
        Self::with_server(name, |node| {
            let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
            let server = ApiServer::on(in_netns(node.name(), listen)??)?;
            let kubeconfig = server.kubeconfig();
            Ok((server, kubeconfig))
        })
    }

    /// Creates or changes a pod of the mesh.
    pub(crate) fn put(&self, uid: &str, annotations: &Value) {
        self.server
            .with(|cluster| cluster.apply(pod(uid, annotations)));
    }

    /// Deletes a pod from the API server.
    pub(crate) fn delete(&self, uid: &str) {
        self.server
            .with(|cluster| cluster.delete(&format!("shop/{uid}")));
    }

    /// Creates the sandbox of a pod, with retries as a kubelet does.
    pub(crate) fn run(&self, uid: &str) -> Result<Sandbox<'_>> {
        let mut made = None;
        let mut attempts = 0;
        wait_until(Duration::from_mins(2), || {
            attempts += 1;
            let ran = self.node.run_sandbox(PodName {
                namespace: "shop".to_owned(),
                name: uid.to_owned(),
                uid: uid.to_owned(),
            });
            let is_over = ran.is_ok() || attempts == ATTEMPTS;
            made = Some(ran);
            is_over
        });
        self.retries
            .fetch_add(u64::from(attempts - 1), Ordering::Relaxed);
        made.context("no attempt was made")?
    }
}

impl<Server> Mesh<Server> {
    /// A node with another server, which `serve` starts with the agent's kubeconfig.
    pub(crate) fn with_server(
        name: &str,
        serve: impl FnOnce(&Node) -> Result<(Server, String)>,
    ) -> Result<Self> {
        let node = Node::new(name)?;
        node.world().add_address(far().ip())?;
        let world = node.world().worker(&Identity::root())?;
        for address in [FAR, LATE] {
            let serve = Serve::new(address, address.parse()?);
            world.serve(&serve.behaviour(Behaviour::ProxyProtocol))?;
        }
        let (server, kubeconfig) = serve(&node)?;
        let mesh = Self {
            server,
            world,
            retries: AtomicU64::new(0),
            node,
        };
        fs::write(mesh.kubeconfig(), kubeconfig)?;
        Ok(mesh)
    }

    fn kubeconfig(&self) -> PathBuf {
        self.node.folder().join("kubeconfig")
    }

    /// Starts an agent as a daemonset does. It ends with the thread that started it.
    pub(crate) fn agent(&self) -> Agent {
        let mut setpriv = self.node.command("setpriv");
        setpriv
            .args(DYING)
            .args(RUN)
            .args(["--source", "kube", "--node-name", "this", "--kubeconfig"])
            .arg(self.kubeconfig())
            .args(["--cni-socket", SOCKET]);
        let (log, network) = (self.node.folder().join("log"), self.node.name().to_owned());
        Agent::start(setpriv, log, Some(network))
    }

    /// Starts an agent, and installs its plugin in the runtime.
    pub(crate) fn agent_with_plugin(&self) -> Result<Agent> {
        let agent = self.agent();
        agent.until_ready();
        self.install(&[])?;
        self.node.wait_for_plugin("redirect-cni", true)?;
        Ok(agent)
    }

    /// Installs or removes the plugin.
    pub(crate) fn install(&self, more: &[&str]) -> Result<()> {
        // The plugin has to be built where the runtime can start it.
        plugin()?;
        let mut command = self.node.command(BINARY);
        command
            .arg("install-cni")
            .arg("--conf-dir")
            .arg(self.node.network_folder())
            .arg("--bin-dir")
            .arg(self.node.plugin_folder())
            .args(more);
        run(command).map(drop)
    }

    /// Removes everything that agents have left.
    pub(crate) fn cleanup(&self) -> Result<String> {
        let mut command = self.node.command(BINARY);
        command.arg("cleanup");
        run(command)
    }

    /// Counts of the world at one of its addresses.
    pub(crate) fn accepted(&self, address: &str) -> Result<AcceptedCounts> {
        self.world.accepted(address)
    }

    /// Counters of a pod's cgroup, including those of former layouts; `None` if it is not attached.
    pub(crate) fn hits(&self, cgroup: &Path) -> Result<Option<Hits>> {
        let id = Cgroup::open(cgroup)?.id();
        let Some(reader) = self.reader()? else {
            return Ok(None);
        };
        let pods = reader.pods()?;
        let Some(pod) = pods.iter().find(|pod| pod.id == id) else {
            return Ok(None);
        };
        let mut hits = reader.hits(pod)?;
        let former_layouts = match fs::read_dir(self.former_layouts()) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Some(hits)),
            former_layouts => former_layouts?,
        };
        for layout in former_layouts {
            let maps = Maps::open(&Pins::new(&layout?.path()))?;
            hits = hits.plus(&maps.hits(id)?);
        }
        Ok(Some(hits))
    }

    /// Directory of the maps of former layouts, for counting: a state directory for each.
    pub(crate) fn former_layouts(&self) -> PathBuf {
        self.node.path("/sys/fs/bpf/former")
    }

    /// Number of attached pods.
    pub(crate) fn attached(&self) -> Result<usize> {
        let reader = self.reader()?;
        Ok(reader.map_or(Ok(Vec::new()), |reader| reader.pods())?.len())
    }

    /// Waits until no pod is attached. By then no trace of any is left on the node.
    pub(crate) fn until_all_detached(&self, agent: &Agent) -> Tested {
        agent.until("detached", || {
            self.attached().is_ok_and(|attached| attached == 0)
        });
        let traces = self.node.pod_resources()?;
        ensure!(traces.is_empty(), "{traces:?}");
        Ok(())
    }

    /// Checks that the world has counted the connections of the applications.
    pub(crate) fn check_world_counts(&self, total: Tally) -> Tested {
        let accepted = self.accepted(FAR)?;
        ensure!(
            (accepted.redirected, accepted.direct(), accepted.silent)
                == (total.proxied, total.direct, 0),
            "{accepted:?}, {total:?}"
        );
        Ok(())
    }

    /// Files on the node's BPF file system; the kernel itself puts two there.
    pub(crate) fn pins(&self) -> Result<BTreeSet<PathBuf>> {
        let entries = fs::read_dir(self.node.path("/sys/fs/bpf"))?;
        entries.map(|entry| Ok(entry?.path())).collect()
    }

    fn reader(&self) -> Result<Option<Reader>> {
        Reader::open(&self.node.path(STATE_DIR))
    }

    /// Calls the plugin in ways that no runtime does in a test.
    pub(crate) fn call(&self, command: &str, uid: &str, netns: &str) -> Result<String> {
        let mut plugin = self.node.command("sh");
        let config = json!({
            "cniVersion": "0.4.0", "name": "pods", "type": "redirect-cni",
            "socket": SOCKET, "prevResult": {"cniVersion": "0.4.0"},
        });
        plugin
            .args(["-c", "printf %s \"$1\" | exec \"$2\"", "sh"])
            .arg(config.to_string())
            .arg(self.node.plugin_folder().join("redirect-cni"))
            .envs([
                ("CNI_COMMAND", command),
                ("CNI_CONTAINERID", uid),
                ("CNI_NETNS", netns),
                ("CNI_IFNAME", "eth0"),
            ])
            .env(
                "CNI_ARGS",
                format!("K8S_POD_NAMESPACE=shop;K8S_POD_NAME={uid};K8S_POD_UID={uid}"),
            );
        run(plugin)
    }
}

/// Standard output of a program; an error if it fails.
fn run(mut command: Command) -> Result<String> {
    let done = command.output()?;
    let output =
        [done.stdout, done.stderr].map(|output| String::from_utf8_lossy(&output).into_owned());
    ensure!(
        done.status.success(),
        "{command:?}: {}: {}{}",
        done.status,
        output[0],
        output[1]
    );
    Ok(output[0].clone())
}
