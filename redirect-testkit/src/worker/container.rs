// SPDX-License-Identifier: MIT OR Apache-2.0
//! The programs of the kit in a container: a worker that a container runtime has started, and a pod's pause process.

use std::{os::unix::net::UnixStream, path::PathBuf, thread};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::session;
use crate::dial::{self, Dial};

/// The start of a worker in a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ContainerStart {
    /// The dial that the worker makes before anything else.
    pub(crate) first: Option<Dial>,
    /// The socket of the test process.
    pub(crate) socket: PathBuf,
}

/// Makes the first dial, if there is one, and only then connects to the test process. The first reply is the report of
/// the dial.
pub(crate) fn run(start: &ContainerStart) -> Result<()> {
    let dialled = start.first.as_ref().map(dial::dial).transpose();
    let shown = || format!("connect to {}", start.socket.display());
    let stream = UnixStream::connect(&start.socket).with_context(shown)?;
    rustix::stdio::dup2_stdin(&stream).with_context(shown)?;
    rustix::stdio::dup2_stdout(&stream).with_context(shown)?;
    drop(stream);
    session::serve(dialled.map_err(Into::into), None)
}

/// Waits until it is killed, and so keeps a pod's namespaces.
pub(crate) fn pause() -> ! {
    loop {
        thread::park();
    }
}
