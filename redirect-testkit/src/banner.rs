// SPDX-License-Identifier: MIT OR Apache-2.0
//! The line a test server sends first: who it is, and what it sees of the connection.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use socket2::Socket;

use crate::{addr, errno, sockopt::original_destination_in};

/// Who answered, and both addresses as the server saw them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Banner {
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
    /// What came of asking again, if the server does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub orig_dst_queries: Vec<OrigDstQuery>,
}

/// One question for the original destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrigDstQuery {
    /// The size of the buffer.
    pub buffer: u32,
    /// The address, or the errno.
    pub answer: Result<Option<SocketAddr>, i32>,
    /// The size of the answer.
    pub length: u32,
}

/// The sizes of buffers that proxies ask with: `sockaddr_in`, `sockaddr_in6`, `sockaddr_storage`;
/// each twice.
const BUFFERS: [u32; 6] = [16, 28, 128, 16, 28, 128];

impl Banner {
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
            orig_dst_queries: Vec::new(),
        }
    }

    /// The same, with what comes of asking again. An IPv6 address does not fit into 16 bytes.
    pub(crate) fn with_queries(mut self, socket: &Socket) -> Self {
        let is_ipv6 = self.local.is_some_and(|local| local.is_ipv6());
        let enough = BUFFERS.into_iter().filter(|size| !is_ipv6 || *size > 16);
        self.orig_dst_queries = enough
            .map(
                |buffer| match original_destination_in(socket, is_ipv6, buffer) {
                    Ok((answer, length)) => OrigDstQuery {
                        buffer,
                        answer: Ok(answer.as_socket().map(addr::canonical)),
                        length,
                    },
                    Err(error) => OrigDstQuery {
                        buffer,
                        answer: Err(errno::of(&error)),
                        length: 0,
                    },
                },
            )
            .collect();
        self
    }

    /// As it goes over the wire: one line.
    pub(crate) fn line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }

    /// Reads such a line; anything else is not a banner.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        serde_json::from_str(line.trim_end()).ok()
    }
}

/// As proxies ask: option 80 at `SOL_IP` for IPv4 and IPv4-mapped connections, at `SOL_IPV6`
/// otherwise, with a buffer of 128 bytes.
pub(crate) fn original_destination(socket: &Socket) -> Result<Option<SocketAddr>, i32> {
    let local = addr::reported(socket.local_addr());
    let orig_dst_queries = match local {
        Some(SocketAddr::V6(_)) => socket.original_dst_v6(),
        Some(SocketAddr::V4(_)) | None => socket.original_dst_v4(),
    };
    orig_dst_queries
        .map(|addr| addr.as_socket().map(addr::canonical))
        .map_err(|error| errno::of(&error))
}
