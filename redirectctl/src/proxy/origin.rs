//! The original destination of a redirected connection.

use std::{io, net::SocketAddr};

use socket2::SockRef;
use tokio::net::TcpStream;

/// Reads `SO_ORIGINAL_DST` of an accepted connection.
///
/// The level of the option depends on the connection, not on the socket: an IPv4 connection on a dual-stack socket has
/// IPv4-mapped addresses, and its option is at `SOL_IP`.
pub fn original_destination(stream: &TcpStream) -> io::Result<SocketAddr> {
    let socket = SockRef::from(stream);
    let answer = if stream.local_addr()?.ip().to_canonical().is_ipv4() {
        socket.original_dst_v4()?
    } else {
        socket.original_dst_v6()?
    };
    answer
        .as_socket()
        .map(canonical)
        .ok_or_else(|| io::Error::other("neither IPv4 nor IPv6"))
}

/// The address without flow label and scope, and as IPv4 if it is IPv4-mapped.
pub(crate) const fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}
