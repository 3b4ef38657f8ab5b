// SPDX-License-Identifier: MIT OR Apache-2.0
//! A container of a pod.

use anyhow::Result;

use super::{
    containerd::{Containerd, IMAGE},
    messages::{
        ContainerConfig, ContainerMetadata, ImageSpec, Int64Value, LinuxContainerConfig,
        LinuxContainerSecurityContext, Mount, PodSandboxConfig,
    },
    program::Program,
};

/// A running container.
#[derive(Debug)]
pub struct Container<'node> {
    containerd: &'node Containerd,
    id: String,
}

impl<'node> Container<'node> {
    /// Starts a program as a container of a sandbox. `name` must be unique in the sandbox.
    pub(super) fn start(
        containerd: &'node Containerd,
        sandbox: &str,
        of: PodSandboxConfig,
        name: &str,
        program: Program,
    ) -> Result<Self> {
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
        let id = containerd.cri().start_container(sandbox, of, config)?;
        Ok(Self { containerd, id })
    }

    /// Kills the container.
    pub fn kill(self) -> Result<()> {
        self.containerd.cri().kill_container(&self.id)
    }
}
