// SPDX-License-Identifier: MIT OR Apache-2.0
//! The one socket option that neither `rustix` nor `socket2` wraps.
#![expect(
    unsafe_code,
    reason = "TCP_FASTOPEN_CONNECT has no safe wrapper in rustix or socket2"
)]

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _},
    ptr::from_ref,
};

/// Sets `TCP_FASTOPEN_CONNECT`: `connect` returns at once, the first write sends the SYN.
pub(crate) fn set_fastopen_connect(socket: &impl AsFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    let length = libc::socklen_t::try_from(size_of_val(&on)).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open for the borrow's life, and `on` is a C int that outlives the
    // call, which reads `length` bytes of it.
    let failed = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_FASTOPEN_CONNECT,
            from_ref(&on).cast(),
            length,
        )
    };
    if failed == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
