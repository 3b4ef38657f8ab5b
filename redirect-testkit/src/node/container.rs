// SPDX-License-Identifier: MIT OR Apache-2.0
//! The containers of a pod.

use std::{
    fs::{self, Permissions},
    io::ErrorKind,
    os::unix::{
        fs::PermissionsExt as _,
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::{
    Node,
    containerd::IMAGE,
    image::KIT,
    messages::{
        ContainerConfig, ContainerMetadata, ImageSpec, Int64Value, LinuxContainerConfig,
        LinuxContainerSecurityContext, Mount,
    },
    sandbox::Sandbox,
};
use crate::{
    dial::{Dial, Dialled},
    probe::{MARK, container::Start},
    wait::wait_until,
    worker::Worker,
};

/// Where a container finds the folder of its worker's socket.
const MEETING: &str = "/meeting";
/// Until a container's first process has said something.
const STARTING: Duration = Duration::from_mins(1);

/// A container that runs.
#[derive(Debug)]
pub struct Container<'node> {
    node: &'node Node,
    id: String,
}

/// What runs in a container.
pub(super) struct Program {
    /// Its user and group.
    pub(super) uid: u32,
    pub(super) argv: Vec<String>,
    /// What of the node it can read, and where.
    pub(super) mounts: Vec<(PathBuf, &'static str)>,
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
        let folder = self.node.place.meeting();
        let (listener, socket) = listen(&folder)?;
        let start = Start {
            first: first.cloned(),
            socket: Path::new(MEETING).join(socket),
        };
        let start = serde_json::to_string(&start)?;
        let container = self.start(
            name,
            Program {
                uid,
                argv: [KIT, MARK, "container", &start].map(str::to_owned).to_vec(),
                mounts: vec![(folder, MEETING)],
            },
        )?;
        let pid = self.node.containerd.cri().pid(&container.id)?;
        let stream =
            accept(&listener).with_context(|| format!("waiting for container {name} to report"))?;
        Worker::at(stream, pid)
    }
}

/// Where any user can come.
fn listen(folder: &Path) -> Result<(UnixListener, &'static str)> {
    let name = "socket";
    let socket = folder.join(name);
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let listener =
        UnixListener::bind(&socket).with_context(|| format!("making {}", socket.display()))?;
    listener.set_nonblocking(true)?;
    fs::set_permissions(&socket, Permissions::from_mode(0o777))?;
    Ok((listener, name))
}

fn accept(listener: &UnixListener) -> Result<UnixStream> {
    let mut accepted = None;
    wait_until(STARTING, || {
        let came = listener.accept();
        let is_over = !came
            .as_ref()
            .is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
        accepted = Some(came);
        is_over
    });
    let (stream, _) = accepted.context("nobody was waited for")??;
    stream.set_nonblocking(false)?;
    Ok(stream)
}
