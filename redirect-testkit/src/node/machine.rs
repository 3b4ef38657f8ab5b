// SPDX-License-Identifier: MIT OR Apache-2.0
//! A node, which runs pods and programs.

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

/// The programs that a node runs.
const PROGRAMS: [&str; 7] = [
    "containerd",
    "ctr",
    "ldd",
    "nsenter",
    "runc",
    "sha256sum",
    "tar",
];

/// A node. Dropping it removes everything.
#[derive(Debug)]
pub struct Node {
    containerd: Containerd,
    // The last field: it is dropped after the processes in it.
    env: NodeEnv,
}

impl Node {
    /// The IPv4 address of the node.
    pub const V4: Ipv4Addr = Pod::V4;

    /// The reason why a node cannot be made here, if it cannot.
    pub fn missing() -> Option<String> {
        let plugins = || {
            let plugin = Path::new(PLUGINS).join("ptp");
            (!plugin.exists()).then(|| format!("needs the CNI plugin {}", plugin.display()))
        };
        require::missing(&PROGRAMS)
            .or_else(plugins)
            .map(|why| format!("{why} (`cargo xtask setup --for test` installs it)"))
    }

    /// Makes a node, and waits until it can run pods. `name` is a few letters, which appear in the names of the cgroup
    /// and the namespaces.
    pub fn new(name: &str) -> Result<Self> {
        let env = NodeEnv::new(name)?;
        let containerd = Containerd::start(&env)?;
        Ok(Self { containerd, env })
    }

    /// The unique name of the node and of its network namespace.
    pub fn name(&self) -> &str {
        self.env.name()
    }

    /// The world at the other end of the node's link. It has a route to the pods.
    pub const fn world(&self) -> &World {
        self.env.world()
    }

    /// A folder for the test, which has the same path inside and outside of the node.
    pub fn folder(&self) -> PathBuf {
        self.env.folder().join("test")
    }

    /// The folder of the node's CNI plugins.
    pub fn plugin_folder(&self) -> PathBuf {
        self.env.folder().join("cni/bin")
    }

    /// The folder of the node's CNI network configurations.
    pub fn network_folder(&self) -> PathBuf {
        self.env.folder().join("cni/net.d")
    }

    /// The root of the node's cgroups, from outside.
    pub fn cgroup(&self) -> &Path {
        self.env.cgroup()
    }

    /// A path of the node, for example below its BPF file system, as seen from outside.
    pub fn path(&self, inside: &str) -> PathBuf {
        self.env.root().join(inside.trim_start_matches('/'))
    }

    /// Makes a command that runs a program in the node's namespaces and cgroup. The program ends with the node at the
    /// latest, and has the process id of the child.
    pub fn command(&self, program: &str) -> Command {
        self.env.command(program)
    }

    /// Waits until containerd runs a CNI plugin for each pod, or no longer runs it.
    pub fn wait_for_plugin(&self, plugin: &str, is_there: bool) -> Result<()> {
        self.containerd.wait_for_plugin(plugin, is_there)
    }

    /// Makes a pod's cgroup, as a kubelet does, and its sandbox, for which the CNI plugins are run. The pod has no
    /// containers of its own yet.
    pub fn run_sandbox(&self, name: PodName) -> Result<Sandbox<'_>> {
        Sandbox::run(&self.containerd, &self.env, name)
    }

    /// Makes a socket for workers of a container that something else starts, any number of times. The container's
    /// program dials `first` before it does anything else, and then serves as a worker of the application.
    pub fn worker_socket(&self, first: &Dial) -> Result<WorkerSocket> {
        WorkerSocket::new(self.env.socket_folder(), APP_ID, Some(first))
    }

    /// Adds an image to the node, which holds these programs of the machine in `/bin`, with the libraries they are
    /// linked to. Its containers run the first program.
    pub fn add_image(&self, name: &str, programs: &[PathBuf]) -> Result<()> {
        let folder = self.env.folder().join("added");
        let files = programs.iter().map(|program| {
            let name = program
                .file_name()
                .context("add an image: a program has no name")?;
            Ok((program.clone(), Path::new("/bin").join(name)))
        });
        let files = files.collect::<Result<Vec<_>>>()?;
        let entrypoint = files
            .first()
            .context("add an image: it has no program")?
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
            .import(&archive.with_context(|| format!("make image {name}"))?)
    }

    /// The socket of the container runtime.
    pub fn runtime_socket(&self) -> PathBuf {
        self.env.folder().join(SOCKET)
    }

    /// Lists the resources of pods on the node: sandboxes, network links, namespaces and cgroups.
    pub fn pod_resources(&self) -> Result<Vec<String>> {
        let mut resources = self.containerd.sandboxes()?;
        let links = self.env.links()?;
        resources.extend(
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
                entries => entries.with_context(|| format!("read {}", folder.display()))?,
            };
            // A cgroup contains files as well.
            let names = entries.flatten().map(|entry| entry.path());
            let pods = names.filter(|path| path.is_dir() || path.starts_with(self.env.root()));
            resources.extend(pods.map(|path| path.display().to_string()));
        }
        Ok(resources)
    }
}
