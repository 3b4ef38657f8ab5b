// SPDX-License-Identifier: MIT OR Apache-2.0
//! The socket at which workers in containers connect to the test process, regardless of who starts the containers.

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

/// The path of the socket's folder in a container.
const SOCKET_FOLDER: &str = "/worker";
/// The time that a container's program may take to connect.
const STARTING: Duration = Duration::from_mins(1);

/// A socket for the workers of one container, which connect each time the container is started.
#[derive(Debug)]
pub struct WorkerSocket {
    listener: UnixListener,
    program: Program,
}

impl WorkerSocket {
    /// Makes the socket in a new folder. Any user may connect.
    pub(super) fn new(folder: PathBuf, uid: u32, first: Option<&Dial>) -> Result<Self> {
        let name = "socket";
        let socket = folder.join(name);
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        let listener =
            UnixListener::bind(&socket).with_context(|| format!("make {}", socket.display()))?;
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

    /// The program to run in the container.
    pub const fn program(&self) -> &Program {
        &self.program
    }

    /// Waits for the next worker of the application, and returns it with the report of its first dial.
    pub fn accept_app(&self, name: &str) -> Result<(Worker, DialReport)> {
        match self.accept_worker(name)? {
            (worker, Some(dialled)) => Ok((worker, dialled)),
            (_, None) => bail!("wait for container {name}: its worker did not dial"),
        }
    }

    pub(super) fn accept_worker(&self, name: &str) -> Result<(Worker, Option<DialReport>)> {
        let stream = self
            .accept()
            .with_context(|| format!("wait for container {name} to connect"))?;
        let pid = socket_peercred(&stream)?.pid.as_raw_nonzero();
        Worker::at(stream, pid.get().unsigned_abs())
    }

    fn accept(&self) -> Result<UnixStream> {
        let mut accepted = None;
        wait_until(STARTING, || {
            let connection = self.listener.accept();
            let is_done = !connection
                .as_ref()
                .is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
            accepted = Some(connection);
            is_done
        });
        let (stream, _) = accepted.context("accept a worker: the wait ended at once")??;
        stream.set_nonblocking(false)?;
        Ok(stream)
    }
}
