// SPDX-License-Identifier: MIT OR Apache-2.0
//! A node: its pods, its programs, and what it has of both.

use std::{
    fs,
    io::ErrorKind,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{
    containerd::{Containerd, PLUGINS, SOCKET},
    env::NodeEnv,
    image::Image,
    sandbox::{PodName, Sandbox},
    worker_socket::WorkerSocket,
};
use crate::{dial::Dial, identity::APP_ID, pod::Pod, require, world::World};

/// What is run by name.
const PROGRAMS: [&str; 7] = [
    "containerd",
    "ctr",
    "ldd",
    "nsenter",
    "runc",
    "sha256sum",
    "tar",
];

/// A node. Dropping it leaves nothing.
#[derive(Debug)]
pub struct Node {
    containerd: Containerd,
    // After whoever lives there.
    env: NodeEnv,
}

impl Node {
    /// The node's own IPv4 address.
    pub const V4: Ipv4Addr = Pod::V4;

    /// Why there can be no node here; none if there can.
    pub fn missing() -> Option<String> {
        let plugins = || {
            let plugin = Path::new(PLUGINS).join("ptp");
            (!plugin.exists()).then(|| format!("needs the CNI plugin {}", plugin.display()))
        };
        require::missing(&PROGRAMS)
            .or_else(plugins)
            .map(|why| format!("{why} (`cargo xtask setup --for test` installs it)"))
    }

    /// Makes a node, and waits until pods can be made on it; `name` is a few letters that will show up in cgroup
    /// and namespace names.
    pub fn new(name: &str) -> Result<Self> {
        let env = NodeEnv::new(name)?;
        let containerd = Containerd::start(&env)?;
        Ok(Self { containerd, env })
    }

    /// The node's unique name, also its network namespace's.
    pub fn name(&self) -> &str {
        self.env.name()
    }

    /// The namespace on the other end of the node's link. It knows the way to the pods.
    pub const fn world(&self) -> &World {
        self.env.world()
    }

    /// A folder for the test, at the same path inside and outside.
    pub fn folder(&self) -> PathBuf {
        self.env.folder().join("test")
    }

    /// Where the node's programs are that make networks for pods.
    pub fn plugin_folder(&self) -> PathBuf {
        self.env.folder().join("cni/bin")
    }

    /// Where it is said which of them do.
    pub fn network_folder(&self) -> PathBuf {
        self.env.folder().join("cni/net.d")
    }

    /// The node's cgroups, from outside.
    pub fn cgroup(&self) -> &Path {
        self.env.cgroup()
    }

    /// A path of the node, such as one below its BPF file system, from outside.
    pub fn path(&self, inside: &str) -> PathBuf {
        self.env.root().join(inside.trim_start_matches('/'))
    }

    /// A program in the node's namespaces and cgroup, which ends with the node at the latest. It keeps its process
    /// id.
    pub fn command(&self, program: &str) -> Command {
        self.env.command(program)
    }

    /// Waits until containerd runs a plugin for each pod, or no longer.
    pub fn wait_for_plugin(&self, plugin: &str, is_there: bool) -> Result<()> {
        self.containerd.wait_for_plugin(plugin, is_there)
    }

    /// Makes a pod's cgroup, as a kubelet does, and its sandbox: the CNI plugins are run. None of the pod's own
    /// containers is there yet.
    pub fn run_sandbox(&self, name: PodName) -> Result<Sandbox<'_>> {
        Sandbox::run(&self.containerd, &self.env, name)
    }

    /// Prepares for a container of the application that somebody else starts, any number of times. Each time it dials
    /// before it does anything else, and a worker is in it.
    pub fn worker_socket(&self, first: &Dial) -> Result<WorkerSocket> {
        WorkerSocket::new(self.env.socket_folder(), APP_ID, Some(first))
    }

    /// Puts an image on the node, which holds these programs of the machine in `/bin`, and what they are linked to.
    /// The first is what its containers run.
    pub fn add_image(&self, name: &str, programs: &[PathBuf]) -> Result<()> {
        let folder = self.env.folder().join("added");
        let files = programs.iter().map(|program| {
            let name = program.file_name().context("a program without a name")?;
            Ok((program.clone(), Path::new("/bin").join(name)))
        });
        let files = files.collect::<Result<Vec<_>>>()?;
        let entrypoint = files
            .first()
            .context("an image of nothing")?
            .1
            .to_string_lossy();
        let image = Image {
            name,
            entrypoint: &[&entrypoint],
            files: &files,
            linked: programs,
        };
        let archive = image.build(&folder);
        self.containerd
            .import(&archive.with_context(|| format!("making image {name}"))?)
    }

    /// Where the container runtime listens.
    pub fn runtime_socket(&self) -> PathBuf {
        self.env.folder().join(SOCKET)
    }

    /// What there is of pods on the node: sandboxes, network links, namespaces and cgroups.
    pub fn pod_resources(&self) -> Result<Vec<String>> {
        let mut traces = self.containerd.sandboxes()?;
        let links = self.env.links()?;
        traces.extend(
            links
                .lines()
                .filter(|link| link.contains("veth"))
                .map(str::to_owned),
        );
        for folder in [
            self.path("/run/netns"),
            self.cgroup().join("kubepods/besteffort"),
        ] {
            let entries = match fs::read_dir(&folder) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                entries => entries.with_context(|| format!("reading {}", folder.display()))?,
            };
            // A cgroup has files as well.
            let names = entries.flatten().map(|entry| entry.path());
            let pods = names.filter(|path| path.is_dir() || path.starts_with(self.env.root()));
            traces.extend(pods.map(|path| path.display().to_string()));
        }
        Ok(traces)
    }
}
