// SPDX-License-Identifier: MIT OR Apache-2.0
//! Dials: connections in all the ways that an application may make them, and the server that answered.

mod connect;
mod exchange;
mod outcome;
mod request;

pub(crate) use self::{
    connect::{dial, dial_sequence, start_connect, timed_out},
    exchange::read_answer,
};
pub use self::{
    outcome::{Answer, DialOutcome, DialReport},
    request::{Dial, DialSequence, Mode},
};
