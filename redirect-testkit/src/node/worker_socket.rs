// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the test meets the workers of containers, whoever starts those.

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

use anyhow::{Context as _, Result, bail};
use rustix::net::sockopt::socket_peercred;

use super::{image::KIT, program::Program};
use crate::{
    command::HELPER,
    dial::{Dial, DialReport},
    wait::wait_until,
    worker::{Worker, container::ContainerStart},
};

/// Where a container finds the folder of its worker's socket.
const SOCKET_FOLDER: &str = "/worker";
/// Until a container's first process has said something.
const STARTING: Duration = Duration::from_mins(1);

/// Where each worker comes that a program is, as often as its container is started.
#[derive(Debug)]
pub struct WorkerSocket {
    listener: UnixListener,
    program: Program,
}

impl WorkerSocket {
    /// In this folder, where any user can come.
    pub(super) fn new(folder: PathBuf, uid: u32, first: Option<&Dial>) -> Result<Self> {
        let name = "socket";
        let socket = folder.join(name);
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let listener =
            UnixListener::bind(&socket).with_context(|| format!("making {}", socket.display()))?;
        listener.set_nonblocking(true)?;
        fs::set_permissions(&socket, Permissions::from_mode(0o777))?;
        let start = ContainerStart {
            first: first.cloned(),
            socket: Path::new(SOCKET_FOLDER).join(name),
        };
        let start = serde_json::to_string(&start)?;
        let program = Program {
            uid,
            argv: [KIT, HELPER, "container", &start]
                .map(str::to_owned)
                .to_vec(),
            mounts: vec![(folder, SOCKET_FOLDER)],
        };
        Ok(Self { listener, program })
    }

    /// What is to run in the container.
    pub const fn program(&self) -> &Program {
        &self.program
    }

    /// Waits for the next worker of the application; tells what became of what it has dialled first.
    pub fn accept_app(&self, name: &str) -> Result<(Worker, DialReport)> {
        match self.accept_worker(name)? {
            (worker, Some(dialled)) => Ok((worker, dialled)),
            (_, None) => bail!("a worker that was to dial did not"),
        }
    }

    pub(super) fn accept_worker(&self, name: &str) -> Result<(Worker, Option<DialReport>)> {
        let stream = self
            .accept()
            .with_context(|| format!("waiting for container {name} to report"))?;
        let pid = socket_peercred(&stream)?.pid.as_raw_nonzero();
        Worker::at(stream, pid.get().unsigned_abs())
    }

    fn accept(&self) -> Result<UnixStream> {
        let mut accepted = None;
        wait_until(STARTING, || {
            let came = self.listener.accept();
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
}
