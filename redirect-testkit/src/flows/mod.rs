// SPDX-License-Identifier: MIT OR Apache-2.0
//! Many connections, each with an identity of its own, and what both of their ends saw: the fast
//! way, for comparing two pods by the million.
//!
//! One thread of one process, the [`FlowRunner`], holds both ends. It connects, which completes
//! before the call returns, and then takes the connection from whichever of its listeners it
//! reached: no other process has to be woken. Listeners of the world are made in the world's
//! namespace before the process moves to the pod, so they are as far from the pod's programs as
//! another process would be. Every connection carries a number from end to end, so an observation
//! is of that very connection.

mod datagram;
mod flow;
mod runner;
mod sockets;

pub use self::flow::{Flow, FlowEnds, FlowKind, FlowListener, FlowOutcome, Side};
pub(crate) use self::{flow::FlowBatch, runner::FlowRunner, sockets::FlowListeners};
