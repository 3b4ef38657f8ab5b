//! Where a redirected connection was going.

use std::{io, net::SocketAddr};

use socket2::SockRef;
use tokio::net::TcpStream;

/// `SO_ORIGINAL_DST` of an accepted connection.
///
/// The level that answers follows the connection and not the socket: an IPv4 connection on a
/// dual-stack socket has IPv4-mapped addresses and answers at `SOL_IP`.
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

/// An IPv4-mapped address as IPv4, and without flow label and scope.
pub(crate) const fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}
