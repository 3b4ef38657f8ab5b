// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sockets made by one identity and used by another, as set-user-id programs, inherited
//! descriptors and `fchown` do.
//!
//! Each identity gets a thread of its own: on Linux setup belong to threads, and the system
//! calls used here change those of the calling one only.
#![expect(
    unsafe_code,
    reason = "setfsuid and setfsgid have no safe wrapper in rustix"
)]

use std::{io, os::unix::fs::fchown, thread};

use rustix::{
    process::{Gid, Uid},
    thread::{set_thread_res_gid, set_thread_res_uid},
};
use serde::{Deserialize, Serialize};
use socket2::Socket;

/// Whose a socket is, in every sense. The worker must be root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketIdentity {
    /// Who makes the socket.
    pub creator: ThreadIds,
    /// Who it is given to with `fchown` then, uid and gid.
    pub chown: Option<u32>,
    /// Who connects it.
    pub connector: ThreadIds,
}

/// The ids of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadIds {
    /// Real uid.
    pub uid: u32,
    /// Effective and saved uid.
    pub effective_uid: u32,
    /// The uid for files, if not the effective one.
    pub fsuid: Option<u32>,
    /// Real gid.
    pub gid: u32,
    /// Effective and saved gid.
    pub effective_gid: u32,
}

impl ThreadIds {
    /// The same uid and gid in every sense.
    pub const fn of(uid: u32, gid: u32) -> Self {
        Self {
            uid,
            effective_uid: uid,
            fsuid: None,
            gid,
            effective_gid: gid,
        }
    }

    /// Runs `work` with these ids, in a thread that ends with it.
    fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        let become_and_work = || {
            self.take()?;
            Ok(work())
        };
        thread::scope(|scope| scope.spawn(become_and_work).join())
            .map_err(|_panic| io::Error::other("the thread of another identity panicked"))?
    }

    fn take(&self) -> io::Result<()> {
        let (gid, effective) = (Gid::from_raw(self.gid), Gid::from_raw(self.effective_gid));
        set_thread_res_gid(gid, effective, effective)?;
        let (uid, effective) = (Uid::from_raw(self.uid), Uid::from_raw(self.effective_uid));
        set_thread_res_uid(uid, effective, effective)?;
        self.fsuid.map_or(Ok(()), set_fsuid)
    }
}

impl SocketIdentity {
    /// The same identity all along.
    pub const fn of(ids: ThreadIds) -> Self {
        Self {
            creator: ids,
            chown: None,
            connector: ids,
        }
    }

    /// The same, connected by somebody else.
    #[must_use]
    pub const fn connected_by(mut self, connector: ThreadIds) -> Self {
        self.connector = connector;
        self
    }

    /// The same, given away before it is connected.
    #[must_use]
    pub const fn chown(mut self, id: u32) -> Self {
        self.chown = Some(id);
        self
    }

    /// Makes a socket and uses it.
    pub(crate) fn create_and_connect<T: Send>(
        &self,
        make: impl FnOnce() -> io::Result<Socket> + Send,
        connect: impl FnOnce(&Socket) -> T + Send,
    ) -> io::Result<T> {
        let socket = self.creator.run(make)??;
        if let Some(id) = self.chown {
            fchown(&socket, Some(id), Some(id))?;
        }
        self.connector.run(|| connect(&socket))
    }
}

/// The ids for files of the calling thread: all that a new socket's owner depends on, and cheap
/// enough to change for every connection. The thread must be root's and stay so otherwise.
#[derive(Debug, Default)]
pub(crate) struct FsIds {
    now: Option<(u32, u32)>,
}

impl FsIds {
    /// Takes these ids on, if they are not taken already.
    pub(crate) fn take(&mut self, uid: u32, gid: u32) -> io::Result<()> {
        if self.now != Some((uid, gid)) {
            self.now = None;
            set_fsgid(gid)?;
            set_fsuid(uid)?;
            self.now = Some((uid, gid));
        }
        Ok(())
    }
}

fn set_fsuid(uid: u32) -> io::Result<()> {
    // SAFETY: takes a number and touches no memory.
    set_fs("setfsuid", uid, |id| unsafe { libc::setfsuid(id) })
}

fn set_fsgid(gid: u32) -> io::Result<()> {
    // SAFETY: takes a number and touches no memory.
    set_fs("setfsgid", gid, |id| unsafe { libc::setfsgid(id) })
}

/// The calls report no errors, only what it was; asking with an impossible id changes nothing.
fn set_fs(name: &str, id: u32, call: fn(u32) -> libc::c_int) -> io::Result<()> {
    call(id);
    // The kernel's ids beyond the largest int come back as negative numbers.
    if call(u32::MAX).cast_unsigned() == id {
        Ok(())
    } else {
        Err(io::Error::other(format!("{name} had no effect")))
    }
}
