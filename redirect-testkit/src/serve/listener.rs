// SPDX-License-Identifier: MIT OR Apache-2.0
//! The listening sockets of servers.

use std::{io, thread};

use socket2::{Domain, Protocol, Socket, Type};

use super::request::{Behaviour, Serve};

/// Makes a server's socket.
pub(super) fn listen(serve: &Serve) -> io::Result<Socket> {
    let domain = if serve.listen.is_ipv6() {
        Domain::IPV6
    } else {
        Domain::IPV4
    };
    let is_udp = serve.behaviour == Behaviour::Udp;
    let (kind, protocol) = if is_udp {
        (Type::DGRAM, Protocol::UDP)
    } else if serve.multipath {
        (Type::STREAM, Protocol::MPTCP)
    } else {
        (Type::STREAM, Protocol::TCP)
    };
    let socket = Socket::new(domain, kind, Some(protocol))?;
    if serve.listen.is_ipv6() {
        socket.set_only_v6(serve.v6only)?;
    }
    socket.set_reuse_address(!is_udp)?;
    socket.set_reuse_port(serve.reuse_port)?;
    if serve.transparent && serve.listen.is_ipv6() {
        socket.set_ip_transparent_v6(true)?;
    } else if serve.transparent {
        socket.set_ip_transparent_v4(true)?;
    }
    socket.bind(&serve.listen.into())?;
    if !is_udp {
        socket.listen(serve.backlog)?;
    }
    Ok(socket)
}

/// Accepts the next connection; none once the listener is shut down. Connections that ended in the queue are
/// skipped, and so are moments without free descriptors.
pub(super) fn accept(listener: &Socket) -> Option<Socket> {
    loop {
        match listener.accept() {
            Ok((socket, _)) => return Some(socket),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return None,
            Err(error) if error.raw_os_error() == Some(libc::EBADF) => return None,
            Err(_) => thread::yield_now(),
        }
    }
}
