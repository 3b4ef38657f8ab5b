// SPDX-License-Identifier: MIT OR Apache-2.0
//! Servers inside a worker, each with a name.

mod accepted;
mod listener;
mod proxy_protocol;
mod request;
mod server;

pub(crate) use self::server::Server;
pub use self::{
    accepted::AcceptedCounts,
    request::{Behaviour, Serve},
};
