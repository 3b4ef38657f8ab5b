// SPDX-License-Identifier: MIT OR Apache-2.0
//! The banner: the line that a test server sends first, with its name and the addresses that it sees.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use socket2::Socket;

use crate::{addr, errno, sockopt::original_destination_in};

/// The name of the server that answered, and the connection's addresses as the server saw them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Banner {
    /// The name that the test gave the server.
    pub server: String,
    /// The answer of `SO_ORIGINAL_DST`, asked for the family that the connection really has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orig_dst: Option<SocketAddr>,
    /// The errno of `SO_ORIGINAL_DST`, if the kernel had no original destination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orig_dst_error: Option<i32>,
    /// The client's address at the server.
    pub peer: Option<SocketAddr>,
    /// The server's own address on this connection.
    pub local: Option<SocketAddr>,
    /// Further queries for the original destination: see [`crate::Behaviour::BannerAndQueries`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub orig_dst_queries: Vec<OrigDstQuery>,
}

/// One query for the original destination, with a buffer of a certain size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrigDstQuery {
    /// The size of the buffer, in bytes.
    pub buffer: u32,
    /// The address, or the errno.
    pub answer: Result<Option<SocketAddr>, i32>,
    /// The size of the answer, in bytes.
    pub length: u32,
}

/// The sizes of the buffers that proxies query with: `sockaddr_in`, `sockaddr_in6`, `sockaddr_storage`;
/// each twice.
const BUFFERS: [u32; 6] = [16, 28, 128, 16, 28, 128];

impl Banner {
    /// The banner of the server called `server` on an accepted connection.
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

    /// Adds queries with buffers of several sizes. IPv6 is not asked with 16 bytes, which are too few for an address.
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

    /// The banner as it is sent: one line of JSON.
    pub(crate) fn line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }

    /// Parses a line; none if it is not a banner.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        serde_json::from_str(line.trim_end()).ok()
    }
}

/// Asks for the original destination as proxies do: option 80, at `SOL_IP` for IPv4 and IPv4-mapped
/// connections and at `SOL_IPV6` for others, with a buffer of 128 bytes.
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
