// SPDX-License-Identifier: MIT OR Apache-2.0
//! The containers of a pod.

use std::path::PathBuf;

use anyhow::Result;

use super::{
    IMAGE, Node,
    meeting::Meeting,
    messages::{
        ContainerConfig, ContainerMetadata, ImageSpec, Int64Value, LinuxContainerConfig,
        LinuxContainerSecurityContext, Mount,
    },
    sandbox::Sandbox,
};
use crate::{
    dial::{Dial, Dialled},
    envoy::Envoy,
    identity::PROXY_ID,
    worker::Worker,
};

/// A container that runs.
#[derive(Debug)]
pub struct Container<'node> {
    node: &'node Node,
    id: String,
}

/// What runs in a container.
#[derive(Debug, Clone)]
pub struct Program {
    /// Its user and group.
    pub uid: u32,
    /// Its command line.
    pub argv: Vec<String>,
    /// What of the node it can read, and where.
    pub mounts: Vec<(PathBuf, &'static str)>,
}

impl Program {
    /// Envoy as the sidecar: see [`Envoy::announcing`].
    pub fn sidecar() -> Result<Self> {
        let binary = Envoy::binary()?.canonicalize()?;
        Ok(Self {
            uid: PROXY_ID,
            argv: Envoy::announcing("/envoy"),
            mounts: vec![(binary, "/envoy")],
        })
    }
}

impl Container<'_> {
    /// Ends it at once.
    pub fn kill(self) -> Result<()> {
        self.node.containerd.cri().kill_container(&self.id)
    }
}

impl<'node> Sandbox<'node> {
    /// Starts a container, by a name that is unique in the pod.
    pub(super) fn start(&self, name: &str, program: Program) -> Result<Container<'node>> {
        let id = |uid: u32| Some(Int64Value { value: uid.into() });
        let mounts = program.mounts.into_iter().map(|(from, to)| Mount {
            container_path: to.to_owned(),
            host_path: from.display().to_string(),
            readonly: true,
        });
        let config = ContainerConfig {
            metadata: Some(ContainerMetadata {
                name: name.to_owned(),
            }),
            image: Some(ImageSpec {
                image: IMAGE.to_owned(),
            }),
            command: program.argv,
            mounts: mounts.collect(),
            linux: Some(LinuxContainerConfig {
                security_context: Some(LinuxContainerSecurityContext {
                    run_as_user: id(program.uid),
                    run_as_group: id(program.uid),
                }),
            }),
        };
        let cri = self.node.containerd.cri();
        let id = cri.start_container(&self.id, self.config.clone(), config)?;
        let node = self.node;
        Ok(Container { node, id })
    }

    /// Starts a container with a worker, which may have something to dial first.
    pub(super) fn worker(
        &self,
        name: &str,
        uid: u32,
        first: Option<&Dial>,
    ) -> Result<(Worker, Option<Dialled>)> {
        let meeting = Meeting::new(self.node.place.meeting(), uid, first)?;
        self.start(name, meeting.program().clone())?;
        meeting.worker(name)
    }
}
