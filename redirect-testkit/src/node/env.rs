// SPDX-License-Identifier: MIT OR Apache-2.0
//! The environment of a node: its namespaces, its cgroup, and its folder.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result, anyhow, ensure};

use crate::{
    cgroup::unified_mount,
    command,
    guard::Guard,
    netns,
    pod::{self, Pod},
    world::World,
};

/// The addresses of the node's pods.
pub(super) const PODS: &str = "10.88.0.0/16";

/// The script of the process that holds the node's namespaces. It runs in the node's cgroup, network namespace and
/// cgroup namespace. It mounts `/sys` parts and `/run` anew, so that nothing of the machine is visible below them;
/// `/run` is shared, as under systemd, so that later mounts below it appear everywhere. The process then moves to a
/// leaf: a cgroup with controllers and children may hold no process itself.
const SETUP: &str = "mount -t tmpfs run /run
mount --make-shared /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
echo 0 >/sys/fs/cgroup/init/cgroup.procs
echo inside
exec cat";

/// The environment of a node. Dropping it ends the node's processes and removes everything.
#[derive(Debug)]
pub(super) struct NodeEnv {
    name: String,
    world: World,
    folder: PathBuf,
    cgroup: PathBuf,
    holder: NamespaceHolder,
    /// The number of worker sockets so far.
    sockets: AtomicU32,
    // The last field, because dropping it removes everything that the fields above name.
    _guard: Guard,
}

/// The process that holds the node's namespaces. It ends when this is dropped, and when the test process ends.
#[derive(Debug)]
struct NamespaceHolder {
    child: Child,
    lifeline: Option<ChildStdin>,
}

impl NodeEnv {
    pub(super) fn new(name: &str) -> Result<Self> {
        let name = pod::unique_name(name)?;
        let cgroup = unified_mount()?.join(&name);
        let folder = std::env::temp_dir().join(&name);
        let world = World {
            namespace: format!("{name}-world"),
        };
        // The guard is started first, so that everything made after it is removed.
        let guard = Guard::start_for_node(&cgroup, [&name, &world.namespace], &folder)?;
        let init = cgroup.join("init");
        for folder in [&folder.join("test"), &init] {
            fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        }
        netns::add(&name)?;
        pod::link_to_world(&name, &world.namespace)
            .with_context(|| format!("make the network of node {name}"))?;
        let route = format!("route add {PODS} via {}\n", Pod::V4);
        netns::batch(&world.namespace, &route)?;
        let holder = NamespaceHolder::new(&cgroup, &name)?;
        Ok(Self {
            name,
            world,
            folder,
            cgroup,
            holder,
            sockets: AtomicU32::new(0),
            _guard: guard,
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) const fn world(&self) -> &World {
        &self.world
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes a path for the folder of another worker socket. The path is short, because a socket's path is limited.
    pub(super) fn socket_folder(&self) -> PathBuf {
        let number = self.sockets.fetch_add(1, Ordering::Relaxed);
        self.folder.join(format!("sockets/{number}"))
    }

    pub(super) fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// The root of the node's mount namespace, from outside.
    pub(super) fn root(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.holder.child.id()))
    }

    /// Makes a command that runs a program in the node's namespaces and cgroup.
    pub(super) fn command(&self, program: &str) -> Command {
        use std::os::unix::process::CommandExt as _;
        let mut command = command::program("sh");
        command
            .args(["-c", "echo 0 >\"$0\" && exec \"$@\""])
            .arg(self.cgroup.join("init/cgroup.procs"))
            .args(["nsenter", "--mount", "--net", "--cgroup", "--target"])
            .arg(self.holder.child.id().to_string())
            .args(["--", program])
            // Ctrl-C is for the test process; this process ends with it.
            .process_group(0);
        command
    }

    /// The network links of the node, one per line.
    pub(super) fn links(&self) -> Result<String> {
        command::output("ip", &["-n", &self.name, "-oneline", "link"], "")
    }
}

impl NamespaceHolder {
    fn new(cgroup: &Path, namespace: &str) -> Result<Self> {
        let enter = "echo 0 >\"$0\" && exec unshare --cgroup ip netns exec \"$1\" sh -ec \"$2\"";
        let mut child = command::program("sh")
            .args(["-c", enter])
            .arg(cgroup.join("cgroup.procs"))
            .args([namespace, SETUP])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start the first process of a node")?;
        let lifeline = child.stdin.take();
        let stdout = child.stdout.take();
        let holder = Self { child, lifeline };
        let mut line = String::new();
        BufReader::new(stdout.ok_or_else(|| {
            anyhow!("start the first process of a node: it has no standard output")
        })?)
        .read_line(&mut line)
        .context("read from the first process of a node")?;
        ensure!(
            line == "inside\n",
            "start the first process of a node: it has ended"
        );
        Ok(holder)
    }
}

impl Drop for NamespaceHolder {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        // The process ends when it reads the end of its input, so waiting cannot block.
        drop(self.child.wait());
    }
}
