// SPDX-License-Identifier: MIT OR Apache-2.0
//! The line a test server sends first: who it is, and what it sees of the connection.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use socket2::Socket;

use crate::{addr, errno};

/// Who answered, and both addresses as the server saw them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Greeting {
    /// The name given to the server.
    pub server: String,
    /// `SO_ORIGINAL_DST`, asked of the family the connection really has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orig_dst: Option<SocketAddr>,
    /// The errno, if the kernel had no original destination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orig_dst_error: Option<i32>,
    /// The client's address at the server.
    pub peer: Option<SocketAddr>,
    /// The server's own address on this connection.
    pub local: Option<SocketAddr>,
}

impl Greeting {
    /// What the server called `server` sees of this accepted connection.
    pub(crate) fn of(server: &str, socket: &Socket) -> Self {
        let (orig_dst, orig_dst_error) = match original_destination(socket) {
            Ok(addr) => (addr, None),
            Err(errno) => (None, Some(errno)),
        };
        Self {
            server: server.to_owned(),
            orig_dst,
            orig_dst_error,
            peer: addr::reported(socket.peer_addr()),
            local: addr::reported(socket.local_addr()),
        }
    }

    /// As it goes over the wire: one line.
    pub(crate) fn line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }

    /// Reads such a line; anything else is not a greeting.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        serde_json::from_str(line.trim_end()).ok()
    }
}

/// As proxies ask: option 80 at `SOL_IP` for IPv4 and IPv4-mapped connections, at `SOL_IPV6`
/// otherwise, with a buffer of 128 bytes.
pub(crate) fn original_destination(socket: &Socket) -> Result<Option<SocketAddr>, i32> {
    let local = addr::reported(socket.local_addr());
    let asked = match local {
        Some(SocketAddr::V6(_)) => socket.original_dst_v6(),
        Some(SocketAddr::V4(_)) | None => socket.original_dst_v4(),
    };
    asked
        .map(|addr| addr.as_socket().map(addr::canonical))
        .map_err(|error| errno::of(&error))
}
