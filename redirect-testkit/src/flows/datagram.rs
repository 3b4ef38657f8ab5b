// SPDX-License-Identifier: MIT OR Apache-2.0
//! Datagram sockets that answer from the address at which a datagram arrived.

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
};

use socket2::{Domain, MsgHdr, Protocol, Socket, Type};

use crate::sockopt::{Datagram, set_receive_destination, source};

/// Makes a socket that receives datagrams.
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

/// Sends a datagram back, from the address that it was sent to.
pub(super) fn answer(socket: &Socket, query: &Datagram) -> io::Result<usize> {
    let (to, control) = (query.from.into(), source(query.to.ip()));
    let parts = [IoSlice::new(&query.text)];
    let message = MsgHdr::new()
        .with_addr(&to)
        .with_buffers(&parts)
        .with_control(&control);
    socket.sendmsg(&message, 0)
}
