//! The number of a network namespace: its cookie, which is unique as long as the machine runs, or its
//! inode where programs cannot read the cookie.
#![expect(unsafe_code, reason = "SO_NETNS_COOKIE has no safe wrapper")]

use std::{
    net::{Ipv4Addr, UdpSocket},
    os::fd::AsRawFd as _,
};

use anyhow::{Context as _, Result, bail};

use super::{file::NetnsFile, open::NetnsHandle};
use crate::sys::kernel_features::kernel_features;

/// `SO_NETNS_COOKIE` (include/uapi/asm-generic/socket.h).
const SO_NETNS_COOKIE: libc::c_int = 71;

impl NetnsHandle {
    /// The number by which programs know the namespace: its cookie, or its inode before Linux 5.15.
    /// The kernel gives the inode of a namespace that has ended to a later one.
    pub fn cookie(&self) -> Result<u64> {
        self.inside(current)
    }
}

/// The number of the current thread's network namespace.
pub(super) fn current() -> Result<u64> {
    if !kernel_features().netns_cookie() {
        return Ok(NetnsFile::current()?.inode());
    }
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).context("open a socket")?;
    let mut cookie = 0_u64;
    let mut length = libc::socklen_t::try_from(size_of::<u64>())?;
    // SAFETY: the option writes a u64 and its length, and both pointers are to such values.
    let status = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if status != 0 {
        return Err(std::io::Error::last_os_error())
            .context("read the cookie of a network namespace (SO_NETNS_COOKIE, since Linux 5.14)");
    }
    if cookie == 0 {
        bail!("read the cookie of a network namespace: the kernel returned none");
    }
    Ok(cookie)
}
