//! The users and groups of processes: reading another process's, and changing one's own.

use std::{fs, io};

use anyhow::{Context as _, Result};
use rustix::{
    process::{Gid, Uid, getegid, geteuid},
    thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};

/// Whether the process runs as root, and so can become any user.
#[must_use]
pub fn is_root() -> bool {
    geteuid().is_root()
}

/// The user and group that own the files and sockets that a process creates: its file system ids,
/// in this process's user namespace (`/proc/PID/status`).
pub fn of_process(pid: u32) -> Result<(u32, u32)> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path)
        .with_context(|| format!("find the user of process {pid}: read \"{path}\""))?;
    // "Uid:  real  effective  saved  file system"
    let id = |name: &str| -> Option<u32> {
        let ids = status.lines().find_map(|line| line.strip_prefix(name))?;
        ids.split_ascii_whitespace().nth(3)?.parse().ok()
    };
    id("Uid:")
        .zip(id("Gid:"))
        .with_context(|| format!("find the user of process {pid}: \"{path}\" does not name it"))
}

/// Becomes `uid:gid` permanently, without supplementary groups. Later connections have this owner.
///
/// Credentials belong to threads, and this function changes those of the calling thread. It fails
/// if another thread exists, which would continue as the old user.
pub fn drop_to(uid: u32, gid: u32) -> io::Result<()> {
    if fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other(
            "change user: more than one thread runs already",
        ));
    }
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    set_thread_groups(&[])?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)?;
    if geteuid() != uid || getegid() != gid {
        return Err(io::Error::other("change user: the kernel kept the old one"));
    }
    Ok(())
}
