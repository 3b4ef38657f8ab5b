// SPDX-License-Identifier: MIT OR Apache-2.0
//! Connecting in all the ways an application may, and telling who answered.

mod connect;
mod converse;
mod outcome;
mod request;

pub(crate) use self::{
    connect::{begin, dial, dial_sequence, timed_out},
    converse::read_answer,
};
pub use self::{
    outcome::{Answer, Dialled, Outcome},
    request::{Dial, DialSequence, Mode},
};
