// SPDX-License-Identifier: MIT OR Apache-2.0
//! Named servers inside a worker.

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
