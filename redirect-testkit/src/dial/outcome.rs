// SPDX-License-Identifier: MIT OR Apache-2.0
//! The outcome of a connection: who answered, and both addresses as the client sees them.

use std::{io, net::SocketAddr};

use serde::{Deserialize, Serialize};

use crate::{banner::Banner, errno};

/// What a server sent after the connection stood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// A banner.
    Banner(Banner),
    /// Something else.
    Other(String),
    /// The end of the stream.
    Closed,
    /// A reset.
    Reset,
    /// Nothing until the time was up.
    Silent,
    /// Nobody waited for one.
    NotAwaited,
}

/// What came of a dial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DialOutcome {
    /// The connection stood.
    Connected(Answer),
    /// `ECONNREFUSED`.
    Refused,
    /// Any other error; a dial that took too long is `ETIMEDOUT`.
    Failed {
        /// The errno.
        errno: i32,
        /// Its name.
        name: String,
    },
}

/// A dial's outcome, and both addresses as the client sees them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DialReport {
    /// What came of it.
    pub outcome: DialOutcome,
    /// `getpeername`, once connected; IPv4-mapped addresses in IPv4 form.
    pub peername: Option<SocketAddr>,
    /// `getsockname`, once connected; IPv4-mapped addresses in IPv4 form.
    pub sockname: Option<SocketAddr>,
    /// What the server sent back, if the dial asked for an echo.
    pub echoed: Option<Vec<u8>>,
}

impl DialReport {
    /// The banner, if there was one.
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

    /// The original destination, as the answering server was told.
    pub fn orig_dst(&self) -> Option<SocketAddr> {
        self.banner().and_then(|banner| banner.orig_dst)
    }

    /// Whether the connection stood, whoever answered.
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
