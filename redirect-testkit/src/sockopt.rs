// SPDX-License-Identifier: MIT OR Apache-2.0
//! Socket options and control messages that neither `rustix` nor `socket2` wraps.
#![expect(
    unsafe_code,
    reason = "TCP_FASTOPEN_CONNECT, IP_BIND_ADDRESS_NO_PORT, IP_PKTINFO with its messages, and SO_ORIGINAL_DST with a buffer of any size, have no safe wrapper in rustix or socket2"
)]

use std::{
    io,
    mem::MaybeUninit,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, AsRawFd as _},
    ptr::from_ref,
};

use socket2::{MaybeUninitSlice, MsgHdrMut, SockAddr, SockAddrStorage, Socket};

/// `SO_ORIGINAL_DST` (`linux/netfilter_ipv4.h`) and `IP6T_SO_ORIGINAL_DST`.
const SO_ORIGINAL_DST: libc::c_int = 80;

/// The size of a control message's head (`cmsg(3)`).
const HEAD: usize = size_of::<libc::cmsghdr>();
/// The size of a buffer for one control message of either family: `in_pktinfo` is 12 bytes long, `in6_pktinfo` 20.
const ROOM: usize = HEAD + 24;

/// Sets `TCP_FASTOPEN_CONNECT`: `connect` returns at once, and the first write sends the SYN.
pub(crate) fn set_fastopen_connect(socket: &impl AsFd) -> io::Result<()> {
    switch_on(socket, libc::IPPROTO_TCP, libc::TCP_FASTOPEN_CONNECT)
}

/// Sets `IP_BIND_ADDRESS_NO_PORT`, on IPv6 sockets too: `bind` then takes the address only.
pub(crate) fn set_bind_address_no_port(socket: &impl AsFd) -> io::Result<()> {
    switch_on(socket, libc::SOL_IP, libc::IP_BIND_ADDRESS_NO_PORT)
}

/// Sets `IP_PKTINFO` or `IPV6_RECVPKTINFO`: every datagram comes with the address that it was sent to.
pub(crate) fn set_receive_destination(socket: &impl AsFd, is_ipv6: bool) -> io::Result<()> {
    if is_ipv6 {
        switch_on(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO)
    } else {
        switch_on(socket, libc::IPPROTO_IP, libc::IP_PKTINFO)
    }
}

/// A received datagram.
#[derive(Debug)]
pub(crate) struct Datagram {
    pub(crate) text: Vec<u8>,
    pub(crate) from: SocketAddr,
    /// The address that the datagram was sent to.
    pub(crate) to: SocketAddr,
}

/// Receives the next datagram of a socket that listens at `at` and has [`set_receive_destination`] set.
pub(crate) fn receive_with_destination(socket: &Socket, at: SocketAddr) -> io::Result<Datagram> {
    let mut from = SockAddr::from(at);
    let mut text = [MaybeUninit::new(0); 64];
    let mut control = [MaybeUninit::new(0); ROOM];
    let count = {
        let mut parts = [MaybeUninitSlice::new(&mut text)];
        let mut message = MsgHdrMut::new()
            .with_addr(&mut from)
            .with_buffers(&mut parts)
            .with_control(&mut control);
        socket.recvmsg(&mut message, 0)?
    };
    // SAFETY: both buffers are initialized with zeros, and the kernel writes whole bytes.
    let init = |byte: MaybeUninit<u8>| unsafe { byte.assume_init() };
    let text = text.map(init).into_iter().take(count).collect();
    let to = destination(&control.map(init), at.is_ipv6());
    let nowhere = || io::Error::other("a datagram without a source or a destination");
    let (from, to) = from.as_socket().zip(to).ok_or_else(nowhere)?;
    let to = SocketAddr::new(to, at.port());
    Ok(Datagram { text, from, to })
}

/// Parses the address in the one control message.
fn destination(control: &[u8], is_ipv6: bool) -> Option<IpAddr> {
    let (_, data) = control.split_at_checked(HEAD)?;
    if is_ipv6 {
        // ipi6_addr
        let bytes: [u8; 16] = *data.first_chunk()?;
        Some(Ipv6Addr::from(bytes).into())
    } else {
        // ipi_addr, after ipi_ifindex and ipi_spec_dst
        let bytes: [u8; 4] = *data.get(8..)?.first_chunk()?;
        Some(Ipv4Addr::from(bytes).into())
    }
}

/// Makes the control message that sends a datagram from this source address.
#[expect(
    clippy::host_endian_bytes,
    reason = "the message is for this host's kernel"
)]
pub(crate) fn source(from: IpAddr) -> Vec<u8> {
    let (level, kind, data) = match from {
        IpAddr::V4(from) => {
            let data = [[0; 4], from.octets(), [0; 4]].concat();
            (libc::IPPROTO_IP, libc::IP_PKTINFO, data)
        }
        IpAddr::V6(from) => {
            let data = [from.octets().as_slice(), &[0; 4]].concat();
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, data)
        }
    };
    let mut message = (HEAD + data.len()).to_ne_bytes().to_vec();
    message.extend(level.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(data);
    message.resize(message.len().next_multiple_of(align_of::<usize>()), 0);
    message
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

/// Asks for the original destination with a buffer of `size` bytes. Returns the address and the answer's size.
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
    // The buffer is never larger than the storage.
    let room = libc::socklen_t::try_from(size_of::<SockAddrStorage>()).map_err(io::Error::other)?;
    let mut written = size.min(room);
    let ask = |storage: *mut SockAddrStorage, length: *mut libc::socklen_t| {
        // SAFETY: the kernel writes at most `written` bytes, and then their number.
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
