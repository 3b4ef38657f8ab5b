//! The process's user and groups.
//!
//! Depends on: `rustix`. Used by: the command line, for the built-in proxy.

use std::{fs, io};

use rustix::{
    process::{Gid, Uid, getegid, geteuid},
    thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};

/// Whether the process may become anybody.
#[must_use]
pub fn is_root() -> bool {
    geteuid().is_root()
}

/// Becomes `uid:gid` for good, without supplementary groups. Connections made from then on have
/// this owner.
///
/// Credentials belong to threads, and this changes those of the calling one: it refuses to run
/// once there is another thread, which would go on as the old user.
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
