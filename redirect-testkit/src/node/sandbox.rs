// SPDX-License-Identifier: MIT OR Apache-2.0
//! A pod on a node: what a kubelet does for it.

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

/// What a pod is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodName {
    /// Its Kubernetes namespace.
    pub namespace: String,
    /// Its name in that.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// A kubelet counts the attempts: a sandbox that failed may still be there.
static ATTEMPTS: AtomicU32 = AtomicU32::new(0);

/// A pod with its network, and any number of containers. It is there until it is removed, or its node is.
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
            .with_context(|| format!("making the cgroup {}", cgroup.display()))?;
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

    /// Its cgroup, from outside.
    pub fn cgroup(&self) -> &std::path::Path {
        &self.cgroup
    }

    /// Starts Envoy as the sidecar: see [`Program::sidecar`]. It may not be ready yet.
    pub fn sidecar(&self) -> Result<Container<'node>> {
        self.start("istio-proxy", Program::sidecar()?)
    }

    /// Starts a container of the application, which dials before it does anything else. A worker is in it.
    pub fn app(&self, name: &str, first: &Dial) -> Result<(Worker, DialReport)> {
        let (worker, dialled) = self.worker(name, APP_ID, Some(first))?;
        match dialled {
            Some(dialled) => Ok((worker, dialled)),
            None => bail!("a worker that was to dial did not"),
        }
    }

    /// Starts a container, by a name that is unique in the pod.
    fn start(&self, name: &str, program: Program) -> Result<Container<'node>> {
        let of = self.config.clone();
        Container::start(self.containerd, &self.id, of, name, program)
    }

    /// Starts a container with a worker, which may have something to dial first.
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

    /// Removes the pod. Whoever still runs in it is killed.
    pub fn remove(self) -> Result<()> {
        self.containerd.cri().remove_sandbox(&self.id)?;
        cgroup::remove(&self.cgroup)
    }
}
