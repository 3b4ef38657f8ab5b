// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sockets that one identity creates and another uses, as with set-user-id programs, inherited descriptors and
//! `fchown`.
//!
//! Each identity gets a thread of its own: on Linux, credentials belong to threads, and the system calls used
//! here change only those of the calling thread.
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

/// The identities that create, own and connect a socket. The worker must be root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketIdentity {
    /// The ids of the thread that creates the socket.
    pub creator: ThreadIds,
    /// The uid and gid that `fchown` gives the socket to, before it is connected.
    pub chown: Option<u32>,
    /// The ids of the thread that connects the socket.
    pub connector: ThreadIds,
}

/// The ids of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadIds {
    /// The real uid.
    pub uid: u32,
    /// The effective and saved uid.
    pub effective_uid: u32,
    /// The uid for files, if it is not the effective one.
    pub fsuid: Option<u32>,
    /// The real gid.
    pub gid: u32,
    /// The effective and saved gid.
    pub effective_gid: u32,
}

impl ThreadIds {
    /// Uses one uid and one gid as real, effective and saved ids.
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
            .map_err(|_panic| io::Error::other("a thread with another identity panicked"))?
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
    /// Creates and connects the socket with the same ids.
    pub const fn of(ids: ThreadIds) -> Self {
        Self {
            creator: ids,
            chown: None,
            connector: ids,
        }
    }

    /// Sets the ids that connect the socket.
    #[must_use]
    pub const fn connected_by(mut self, connector: ThreadIds) -> Self {
        self.connector = connector;
        self
    }

    /// Gives the socket away before it is connected.
    #[must_use]
    pub const fn chown(mut self, id: u32) -> Self {
        self.chown = Some(id);
        self
    }

    /// Creates a socket and connects it, each with its identity.
    pub(crate) fn create_and_connect<T: Send>(
        &self,
        create: impl FnOnce() -> io::Result<Socket> + Send,
        connect: impl FnOnce(&Socket) -> T + Send,
    ) -> io::Result<T> {
        let socket = self.creator.run(create)??;
        if let Some(id) = self.chown {
            fchown(&socket, Some(id), Some(id))?;
        }
        self.connector.run(|| connect(&socket))
    }
}

/// The file-system ids of the calling thread. A new socket's owner depends on them alone, and they are cheap
/// enough to change for every connection. All other ids of the thread must be and stay root's.
#[derive(Debug, Default)]
pub(crate) struct FsIds {
    now: Option<(u32, u32)>,
}

impl FsIds {
    /// Takes on these ids, unless the thread has them already.
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
    // SAFETY: the call takes a number and touches no memory.
    set_fs("setfsuid", uid, |id| unsafe { libc::setfsuid(id) })
}

fn set_fsgid(gid: u32) -> io::Result<()> {
    // SAFETY: the call takes a number and touches no memory.
    set_fs("setfsgid", gid, |id| unsafe { libc::setfsgid(id) })
}

/// Sets an id and checks it. The calls report no errors, only the previous id; a second call with an impossible
/// id changes nothing and returns the present one.
fn set_fs(name: &str, id: u32, call: fn(u32) -> libc::c_int) -> io::Result<()> {
    call(id);
    // Ids beyond the largest C int are returned as negative numbers.
    if call(u32::MAX).cast_unsigned() == id {
        Ok(())
    } else {
        Err(io::Error::other(format!("{name} had no effect")))
    }
}
