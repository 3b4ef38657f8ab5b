//! The cost of one node's agent: the real program, with pods made by hand.
#![expect(
    clippy::disallowed_methods,
    reason = "the program is run as an operator runs it"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use redirect_fake_apiserver::ApiServer;
use redirect_testkit::{
    GuardedFolder, Identity, Pod, Worker, WorkerCgroup, processor_time, resident_memory, wait_until,
};
use redirect_user::node::{self, Reader};
use serde_json::json;

use crate::{counting_proxy::CountingProxy, pod};

const LONG: Duration = Duration::from_mins(5);

/// The figures of a node.
pub(crate) struct Figures {
    /// Processor time to attach a pod.
    pub(crate) attach: Duration,
    /// Processor time to change a pod.
    pub(crate) change: Duration,
    /// Processor time per second without changes.
    pub(crate) idle: Duration,
    /// Resident memory of the agent, in bytes.
    pub(crate) resident: u64,
    /// Memory of the maps, in bytes: without pods, and with all.
    pub(crate) maps: [u64; 2],
    /// Bytes of an Event on the wire, both ways.
    pub(crate) event: u64,
}

struct Agent {
    child: Child,
    owner: PathBuf,
    _guards: [GuardedFolder; 2],
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Both fail only if the process has ended.
        drop(self.child.kill());
        drop(self.child.wait());
        drop(node::uninstall(&self.owner));
    }
}

impl Agent {
    fn start(kubeconfig: &Path) -> Result<Self> {
        let name = format!("redirect-scale-{}", std::process::id());
        let owner = Path::new("/sys/fs/bpf").join(&name);
        let lock = Path::new("/sys/fs/bpf").join(format!("{name}-lock"));
        let guards = [GuardedFolder::guard(&owner)?, GuardedFolder::guard(&lock)?];
        let child = Command::new("setpriv")
            .args([
                "--pdeathsig",
                "SIGKILL",
                env!("CARGO_BIN_EXE_redirect-agent"),
            ])
            .args([
                "run",
                "--source",
                "kube",
                "--node-name",
                "node",
                "--log-level",
                "error",
            ])
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .arg("--bpffs")
            .arg(&owner)
            .stdin(Stdio::null())
            .spawn()
            .context("start the agent")?;
        Ok(Self {
            child,
            owner,
            _guards: guards,
        })
    }

    fn pods(&self) -> Vec<node::Pod> {
        let reader = Reader::open(&self.owner).ok().flatten();
        let pods = reader.and_then(|reader| reader.pods().ok());
        pods.unwrap_or_default()
    }

    fn until_attached(&self, wanted: u32) -> Result<()> {
        let wanted = usize::try_from(wanted)?;
        let is_done = wait_until(LONG, || self.pods().len() == wanted);
        ensure!(
            is_done,
            "only {} of {wanted} pods are attached",
            self.pods().len()
        );
        Ok(())
    }

    fn maps(&self) -> Result<u64> {
        let reader = Reader::open(&self.owner)?.context("nothing is loaded")?;
        Ok(reader.memory()?.iter().map(|map| map.bytes).sum())
    }

    fn spent(&self) -> Result<Duration> {
        processor_time(self.child.id())
    }
}

/// Measures a node with this many pods, changes of one, and idle seconds.
pub(crate) fn measure(count: u32, changes: u32, seconds: u32) -> Result<Figures> {
    let server = ApiServer::start().context("start an API server")?;
    let counting_proxy = CountingProxy::to(server.address()).context("listen")?;
    let kubeconfig = counting_proxy.kubeconfig(&server)?;
    let first = Pod::in_kubepods("scale", &pod::uid(0))?;
    let _processes = processes(&first, count)?;
    // The first pod loads the programs.
    server.with(|cluster| cluster.apply(pod::of("node", 0)));
    let agent = Agent::start(&kubeconfig.file)?;
    agent.until_attached(1)?;
    let empty = agent.maps()?;
    let (before, sent, written) = (agent.spent()?, counting_proxy.up(), events(&server));
    server.with(|cluster| (1..count).for_each(|number| cluster.apply(pod::of("node", number))));
    agent.until_attached(count)?;
    let attach = agent.spent()?.saturating_sub(before) / count.saturating_sub(1).max(1);
    // At most a hundred Events are written at once.
    let expected = u64::from(count.saturating_sub(1).min(90));
    let is_written = wait_until(LONG, || events(&server) - written >= expected);
    ensure!(is_written, "only {} Events", events(&server) - written);
    let event = (counting_proxy.up() - sent) / (events(&server) - written).max(1);
    let maps = [empty, agent.maps()?];
    let before = agent.spent()?;
    for number in 0..changes {
        let old = agent.pods();
        let mut pod = pod::of("node", 0);
        pod["metadata"]["annotations"][pod::EXCLUDED] =
            json!(format!("10.0.{}.0/24", number % 256));
        server.with(|cluster| cluster.apply(pod));
        let is_changed = wait_until(LONG, || agent.pods() != old);
        ensure!(is_changed, "a change is not in force");
    }
    let change = agent.spent()?.saturating_sub(before) / changes;
    let before = agent.spent()?;
    thread::sleep(Duration::from_secs(seconds.into()));
    let idle = agent.spent()?.saturating_sub(before) / seconds;
    Ok(Figures {
        attach,
        change,
        idle,
        resident: resident_memory(agent.child.id())?,
        maps,
        event,
    })
}

/// One process for each pod, in cgroups beside that of the first pod.
fn processes(first: &Pod, count: u32) -> Result<Vec<(Worker, Pod)>> {
    let folder = first.cgroup().path().parent().context("a pod's cgroup")?;
    (0..count)
        .map(|number| {
            let cgroup = folder.join(format!("pod{}/app", pod::uid(number)));
            fs::create_dir_all(&cgroup).context("make a cgroup")?;
            // Only the network namespace of this pod is used.
            let pod = Pod::new("scale")?;
            let identity = Identity::app().cgroup(WorkerCgroup::Folder(cgroup));
            Ok((pod.worker(&identity)?, pod))
        })
        .collect()
}

/// Number of Events so far.
fn events(server: &ApiServer) -> u64 {
    server.with(|cluster| u64::try_from(cluster.events.len()).unwrap_or_default())
}
