// SPDX-License-Identifier: MIT OR Apache-2.0
//! Workers: processes with the identity that a test asks for, and the protocol between them and the test process.

mod channel;
mod client;
pub(crate) mod container;
mod protocol;
pub(crate) mod session;
mod setup;
mod spec;

pub use self::client::Worker;
pub(crate) use self::spec::WorkerSpec;
