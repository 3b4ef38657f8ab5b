// SPDX-License-Identifier: MIT OR Apache-2.0
//! The outcome of a dial: the answer of the server, and both addresses as the client sees them.

use std::{io, net::SocketAddr};

use serde::{Deserialize, Serialize};

use crate::{banner::Banner, errno};

/// The first answer of a server on an established connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// A banner.
    Banner(Banner),
    /// Other text.
    Other(String),
    /// The end of the stream.
    Closed,
    /// A reset.
    Reset,
    /// No answer within the time limit.
    Silent,
    /// No answer was waited for.
    NotAwaited,
}

/// The success or failure of a dial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DialOutcome {
    /// The connection was established, and the server answered like this.
    Connected(Answer),
    /// The connect failed with `ECONNREFUSED`.
    Refused,
    /// The connect failed with another error; `ETIMEDOUT` also if the time limit was reached.
    Failed {
        /// The errno.
        errno: i32,
        /// The errno's name.
        name: String,
    },
}

/// The outcome of a dial, with both addresses as the client sees them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DialReport {
    /// The success or failure.
    pub outcome: DialOutcome,
    /// The result of `getpeername` once connected; IPv4-mapped addresses are in IPv4 form.
    pub peername: Option<SocketAddr>,
    /// The result of `getsockname` once connected; IPv4-mapped addresses are in IPv4 form.
    pub sockname: Option<SocketAddr>,
    /// The bytes that the server sent back, if the dial asked for an echo.
    pub echoed: Option<Vec<u8>>,
}

impl DialReport {
    /// The banner, if the server sent one.
    pub const fn banner(&self) -> Option<&Banner> {
        match &self.outcome {
            DialOutcome::Connected(Answer::Banner(banner)) => Some(banner),
            DialOutcome::Connected(_) | DialOutcome::Refused | DialOutcome::Failed { .. } => None,
        }
    }

    /// The name of the server that answered.
    pub fn server(&self) -> Option<&str> {
        self.banner().map(|banner| banner.server.as_str())
    }

    /// The original destination that the answering server saw.
    pub fn orig_dst(&self) -> Option<SocketAddr> {
        self.banner().and_then(|banner| banner.orig_dst)
    }

    /// Whether the connection was established, to any server.
    pub const fn is_connected(&self) -> bool {
        matches!(self.outcome, DialOutcome::Connected(_))
    }

    pub(super) fn failed(error: &io::Error) -> Self {
        let outcome = match errno::of(error) {
            libc::ECONNREFUSED => DialOutcome::Refused,
            number => DialOutcome::Failed {
                errno: number,
                name: errno::name(number),
            },
        };
        Self {
            outcome,
            peername: None,
            sockname: None,
            echoed: None,
        }
    }
}
