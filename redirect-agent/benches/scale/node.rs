//! What one node's agent costs: the real program, with pods made by hand.
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

/// What was measured.
pub(crate) struct Figures {
    /// The processor's time to attach one of the pods.
    pub(crate) attach: Duration,
    /// The same, to change one.
    pub(crate) change: Duration,
    /// The same, in a second in which nothing happens.
    pub(crate) idle: Duration,
    /// What the agent has in memory, in bytes.
    pub(crate) resident: u64,
    /// What the maps take, in bytes: without any pod, and with all.
    pub(crate) maps: [u64; 2],
    /// Bytes that an Event takes on the wire, both ways.
    pub(crate) event: u64,
}

struct Agent {
    child: Child,
    owner: PathBuf,
    _guards: [GuardedFolder; 2],
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Both fail only if it has ended.
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

/// With so many pods, so many changes of one, and so many seconds in which nothing happens.
pub(crate) fn measure(count: u32, changes: u32, seconds: u32) -> Result<Figures> {
    let server = ApiServer::start().context("start an API server")?;
    let counting_proxy = CountingProxy::to(server.address()).context("listen")?;
    let kubeconfig = counting_proxy.kubeconfig(&server)?;
    let first = Pod::in_kubepods("scale", &pod::uid(0))?;
    let _processes = processes(&first, count)?;
    // One, to load the programs; then the others.
    server.with(|cluster| cluster.apply(pod::of("node", 0)));
    let agent = Agent::start(&kubeconfig.file)?;
    agent.until_attached(1)?;
    let empty = agent.maps()?;
    let (before, sent, told) = (agent.spent()?, counting_proxy.up(), events(&server));
    server.with(|cluster| (1..count).for_each(|number| cluster.apply(pod::of("node", number))));
    agent.until_attached(count)?;
    let attach = agent.spent()?.saturating_sub(before) / count.saturating_sub(1).max(1);
    // No more than a hundred are written at once.
    let expected = u64::from(count.saturating_sub(1).min(90));
    let is_told = wait_until(LONG, || events(&server) - told >= expected);
    ensure!(is_told, "only {} Events", events(&server) - told);
    let event = (counting_proxy.up() - sent) / (events(&server) - told).max(1);
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

/// A process in each of so many pods, all where one kubelet keeps them: beside the first.
fn processes(first: &Pod, count: u32) -> Result<Vec<(Worker, Pod)>> {
    let folder = first.cgroup().path().parent().context("a pod's cgroup")?;
    (0..count)
        .map(|number| {
            let cgroup = folder.join(format!("pod{}/app", pod::uid(number)));
            fs::create_dir_all(&cgroup).context("make a cgroup")?;
            // Its namespace counts, not its cgroup.
            let pod = Pod::new("scale")?;
            let identity = Identity::app().cgroup(WorkerCgroup::Folder(cgroup));
            Ok((pod.worker(&identity)?, pod))
        })
        .collect()
}

/// Events so far.
fn events(server: &ApiServer) -> u64 {
    server.with(|cluster| u64::try_from(cluster.events.len()).unwrap_or_default())
}
