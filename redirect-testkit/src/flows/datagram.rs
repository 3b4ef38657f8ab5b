// SPDX-License-Identifier: MIT OR Apache-2.0
//! Datagrams that are received at any address, and answered from it.
#![expect(
    unsafe_code,
    reason = "what socket2 receives beside a datagram is of a type for uninitialised memory"
)]

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use socket2::{Domain, MaybeUninitSlice, MsgHdr, MsgHdrMut, Protocol, SockAddr, Socket, Type};

use crate::sockopt::set_receive_destination;

/// The head of a control message (`cmsg(3)`).
const HEAD: usize = size_of::<libc::cmsghdr>();
/// Room for one, of either family: `in_pktinfo` is 12 bytes long, `in6_pktinfo` 20.
const ROOM: usize = HEAD + 24;

/// A datagram that was received.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) text: Vec<u8>,
    pub(super) from: SocketAddr,
    /// Where it was sent to.
    pub(super) to: SocketAddr,
}

/// A socket that receives datagrams.
pub(super) fn listen(at: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(at), Type::DGRAM, Some(Protocol::UDP))?;
    if at.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    set_receive_destination(&socket, at.is_ipv6())?;
    socket.set_nonblocking(true)?;
    socket.bind(&at.into())?;
    Ok(socket)
}

/// The next datagram of a socket that listens at `at`.
pub(super) fn receive(socket: &Socket, at: SocketAddr) -> io::Result<Query> {
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
    let (text, control) = (text.map(init), control.map(init));
    let to = destination(&control, at.is_ipv6()).map(|ip| SocketAddr::new(ip, at.port()));
    match (from.as_socket(), to) {
        (Some(from), Some(to)) => Ok(Query {
            text: text.get(..count).unwrap_or_default().to_vec(),
            from,
            to,
        }),
        _ => Err(io::Error::other("a datagram from nowhere, or to nowhere")),
    }
}

/// A byte that was zero before the kernel wrote to it, or did not.
const fn init(byte: MaybeUninit<u8>) -> u8 {
    // SAFETY: the only buffers here were made of zeros, and the kernel writes whole bytes.
    unsafe { byte.assume_init() }
}

/// Sends it back, from where it was sent to.
pub(super) fn answer(socket: &Socket, query: &Query) -> io::Result<usize> {
    let (to, control) = (query.from.into(), source(query.to.ip()));
    let parts = [IoSlice::new(&query.text)];
    let message = MsgHdr::new()
        .with_addr(&to)
        .with_buffers(&parts)
        .with_control(&control);
    socket.sendmsg(&message, 0)
}

/// The address in the only control message that there is.
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

/// The control message that asks for a source address.
#[expect(clippy::host_endian_bytes, reason = "it is for this host's kernel")]
fn source(from: IpAddr) -> Vec<u8> {
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
