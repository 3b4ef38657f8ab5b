// SPDX-License-Identifier: MIT OR Apache-2.0
//! Connects through `io_uring`, without the system call `connect`, and with a polling thread without any system
//! call at all.
#![expect(
    unsafe_code,
    reason = "submitted memory must outlive its completion, which io-uring leaves to its caller"
)]

use std::{io, os::fd::AsRawFd as _, time::Duration};

use io_uring::{
    IoUring,
    opcode::{Connect, LinkTimeout},
    squeue::Flags,
    types::{Fd, Timespec},
};
use socket2::{SockAddr, Socket};

/// The time that an idle polling thread waits for work, in milliseconds.
const IDLE: u32 = 100;
/// Marks the completion of the connect.
const CONNECT: u64 = 1;
/// Marks the completion of its time limit.
const LIMIT: u64 = 2;

/// The reason why `io_uring` does not work here, if it does not.
pub fn no_io_uring() -> Option<String> {
    let tried = ring(false).and_then(|_| ring(true));
    tried
        .err()
        .map(|error| format!("needs io_uring (sysctl kernel.io_uring_disabled=0): {error}"))
}

fn ring(is_polled: bool) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    if is_polled {
        builder.setup_sqpoll(IDLE);
    }
    builder.build(2)
}

/// Connects with `IORING_OP_CONNECT`, linked to a time limit.
pub(crate) fn connect(
    socket: &Socket,
    to: &SockAddr,
    limit: Duration,
    is_polled: bool,
) -> io::Result<()> {
    let mut ring = ring(is_polled)?;
    let limit = Timespec::from(limit);
    let connect = Connect::new(Fd(socket.as_raw_fd()), to.as_ptr().cast(), to.len())
        .build()
        .flags(Flags::IO_LINK)
        .user_data(CONNECT);
    let timeout = LinkTimeout::new(&raw const limit).build().user_data(LIMIT);
    // SAFETY: the kernel copies address and time when it takes an entry. They and the socket live until this
    // function returns, which is after both entries are complete.
    unsafe { ring.submission().push_multiple(&[connect, timeout]) }.map_err(io::Error::other)?;
    // Each entry completes exactly once: the limit cancels the connect, or the connect cancels the limit.
    while ring.completion().len() < 2 {
        match ring.submit_and_wait(2) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
    }
    let result = ring
        .completion()
        .find(|done| done.user_data() == CONNECT)
        .map_or(-libc::EIO, |done| done.result());
    match -result {
        0 => Ok(()),
        libc::ECANCELED => Err(io::Error::from_raw_os_error(libc::ETIMEDOUT)),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}
