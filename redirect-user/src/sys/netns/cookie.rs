//! The cookie of a network namespace: the kernel's unique number of it.
#![expect(unsafe_code, reason = "SO_NETNS_COOKIE has no safe wrapper")]

use std::{
    net::{Ipv4Addr, UdpSocket},
    os::fd::AsRawFd as _,
};

use anyhow::{Context as _, Result, bail};

use super::open::NetnsHandle;

/// `SO_NETNS_COOKIE` (include/uapi/asm-generic/socket.h).
const SO_NETNS_COOKIE: libc::c_int = 71;

impl NetnsHandle {
    /// The kernel's unique number of the namespace.
    pub fn cookie(&self) -> Result<u64> {
        self.inside(current)
    }
}

/// The cookie of the current thread's network namespace.
pub(super) fn current() -> Result<u64> {
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
