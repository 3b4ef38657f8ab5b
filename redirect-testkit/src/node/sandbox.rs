// SPDX-License-Identifier: MIT OR Apache-2.0
//! A pod on a node, made as a kubelet makes it.

use std::{
    fs,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result, bail};

use super::{
    container::Container,
    containerd::Containerd,
    env::NodeEnv,
    messages::{LinuxPodSandboxConfig, PodSandboxConfig, PodSandboxMetadata},
    program::Program,
    worker_socket::WorkerSocket,
};
use crate::{
    cgroup,
    dial::{Dial, DialReport},
    identity::APP_ID,
    worker::Worker,
};

/// The names of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodName {
    /// The Kubernetes namespace.
    pub namespace: String,
    /// The name in the namespace.
    pub name: String,
    /// The uid.
    pub uid: String,
}

/// The number of sandboxes so far. A kubelet counts attempts, because a sandbox that failed may still exist.
static ATTEMPTS: AtomicU32 = AtomicU32::new(0);

/// A pod with its network and any number of containers. It exists until [`Self::remove`], or until its node is dropped.
#[derive(Debug)]
pub struct Sandbox<'node> {
    containerd: &'node Containerd,
    env: &'node NodeEnv,
    id: String,
    config: PodSandboxConfig,
    cgroup: PathBuf,
}

impl<'node> Sandbox<'node> {
    pub(super) fn run(
        containerd: &'node Containerd,
        env: &'node NodeEnv,
        name: PodName,
    ) -> Result<Self> {
        let below = format!("kubepods/besteffort/pod{}", name.uid);
        let cgroup = env.cgroup().join(&below);
        fs::create_dir_all(&cgroup)
            .with_context(|| format!("make the cgroup {}", cgroup.display()))?;
        let config = PodSandboxConfig {
            hostname: name.name.clone(),
            metadata: Some(PodSandboxMetadata {
                name: name.name,
                uid: name.uid,
                namespace: name.namespace,
                attempt: ATTEMPTS.fetch_add(1, Ordering::Relaxed),
            }),
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: format!("/{below}"),
            }),
        };
        let id = containerd.cri().run_sandbox(config.clone());
        let id = id.inspect_err(|_| drop(cgroup::remove(&cgroup)))?;
        Ok(Self {
            containerd,
            env,
            id,
            config,
            cgroup,
        })
    }

    /// The pod's cgroup, from outside.
    pub fn cgroup(&self) -> &std::path::Path {
        &self.cgroup
    }

    /// Starts Envoy as the sidecar: see [`Program::sidecar`]. Envoy may not be ready when this returns.
    pub fn sidecar(&self) -> Result<Container<'node>> {
        self.start("istio-proxy", Program::sidecar()?)
    }

    /// Starts a container of the application. Its program dials `first` before it does anything else, and then serves
    /// as a worker.
    pub fn app(&self, name: &str, first: &Dial) -> Result<(Worker, DialReport)> {
        let (worker, dialled) = self.worker(name, APP_ID, Some(first))?;
        match dialled {
            Some(dialled) => Ok((worker, dialled)),
            None => bail!("start the container {name}: its worker did not dial"),
        }
    }

    /// Starts a container. `name` must be unique in the pod.
    fn start(&self, name: &str, program: Program) -> Result<Container<'node>> {
        let of = self.config.clone();
        Container::start(self.containerd, &self.id, of, name, program)
    }

    /// Starts a container with a worker, which may dial first.
    fn worker(
        &self,
        name: &str,
        uid: u32,
        first: Option<&Dial>,
    ) -> Result<(Worker, Option<DialReport>)> {
        let socket = WorkerSocket::new(self.env.socket_folder(), uid, first)?;
        self.start(name, socket.program().clone())?;
        socket.accept_worker(name)
    }

    /// Removes the pod, and kills the processes in it.
    pub fn remove(self) -> Result<()> {
        self.containerd.cri().remove_sandbox(&self.id)?;
        cgroup::remove(&self.cgroup)
    }
}
