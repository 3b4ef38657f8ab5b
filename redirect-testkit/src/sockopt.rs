// SPDX-License-Identifier: MIT OR Apache-2.0
//! The socket options that neither `rustix` nor `socket2` wraps.
#![expect(
    unsafe_code,
    reason = "TCP_FASTOPEN_CONNECT, IP_BIND_ADDRESS_NO_PORT, IP_PKTINFO, and SO_ORIGINAL_DST with a buffer of any size, have no safe wrapper in rustix or socket2"
)]

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _},
    ptr::from_ref,
};

use socket2::{SockAddr, SockAddrStorage};

/// `SO_ORIGINAL_DST` (`linux/netfilter_ipv4.h`) and `IP6T_SO_ORIGINAL_DST`.
const SO_ORIGINAL_DST: libc::c_int = 80;

/// Sets `TCP_FASTOPEN_CONNECT`: `connect` returns at once, the first write sends the SYN.
pub(crate) fn set_fastopen_connect(socket: &impl AsFd) -> io::Result<()> {
    switch_on(socket, libc::IPPROTO_TCP, libc::TCP_FASTOPEN_CONNECT)
}

/// Sets `IP_BIND_ADDRESS_NO_PORT`, which IPv6 sockets take as well: `bind` takes the address only.
pub(crate) fn set_bind_address_no_port(socket: &impl AsFd) -> io::Result<()> {
    switch_on(socket, libc::SOL_IP, libc::IP_BIND_ADDRESS_NO_PORT)
}

/// Has every datagram say which of the host's addresses it was sent to: `IP_PKTINFO`,
/// `IPV6_RECVPKTINFO`.
pub(crate) fn set_receive_destination(socket: &impl AsFd, is_ipv6: bool) -> io::Result<()> {
    if is_ipv6 {
        switch_on(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO)
    } else {
        switch_on(socket, libc::IPPROTO_IP, libc::IP_PKTINFO)
    }
}

fn switch_on(socket: &impl AsFd, level: libc::c_int, option: libc::c_int) -> io::Result<()> {
    let on: libc::c_int = 1;
    let length = libc::socklen_t::try_from(size_of_val(&on)).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open for the borrow's life, and `on` is a C int that outlives the
    // call, which reads `length` bytes of it.
    let failed = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
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

/// Asks for the original destination with a buffer of `size` bytes; tells the size of the answer
/// too.
pub(crate) fn original_destination_in(
    socket: &impl AsFd,
    is_ipv6: bool,
    size: libc::socklen_t,
) -> io::Result<(SockAddr, libc::socklen_t)> {
    let level = if is_ipv6 {
        libc::SOL_IPV6
    } else {
        libc::SOL_IP
    };
    let fd = socket.as_fd().as_raw_fd();
    // No larger than what there is room for.
    let room = libc::socklen_t::try_from(size_of::<SockAddrStorage>()).map_err(io::Error::other)?;
    let mut written = size.min(room);
    let ask = |storage: *mut SockAddrStorage, length: *mut libc::socklen_t| {
        // SAFETY: the kernel writes no more than `written` bytes, and then how many they were.
        let failed = unsafe {
            libc::getsockopt(fd, level, SO_ORIGINAL_DST, storage.cast(), &raw mut written)
        };
        if failed != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `try_init` hands out a valid pointer.
        unsafe {
            *length = written;
        }
        Ok(written)
    };
    // SAFETY: on success the kernel has written an address of the family asked for.
    let (length, address) = unsafe { SockAddr::try_init(ask) }?;
    Ok((address, length))
}
