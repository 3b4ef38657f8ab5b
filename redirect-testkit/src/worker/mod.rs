// SPDX-License-Identifier: MIT OR Apache-2.0
//! Processes with the identity a test asks for: the test's side, their own side, and what both say to each other.

mod channel;
mod client;
pub(crate) mod container;
mod protocol;
pub(crate) mod session;
mod setup;
mod spec;

pub use self::client::Worker;
pub(crate) use self::spec::WorkerSpec;
