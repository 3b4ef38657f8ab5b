// SPDX-License-Identifier: MIT OR Apache-2.0
//! Flows: connections and datagrams, each with an identity of its own, fast enough to compare two pods by the
//! million.
//!
//! One thread of one process, the [`FlowRunner`], holds both ends of every flow. The thread connects, which completes
//! before the call returns, and then accepts the connection from the listener that it reached: no other process
//! has to be woken. Listeners of the world are made in the world's namespace before the process moves to the pod,
//! so that the pod's programs treat them as those of another process. Every flow carries a number from end to
//! end, so that an observation is certainly of this flow.

mod datagram;
mod flow;
mod runner;
mod sockets;

pub use self::flow::{Flow, FlowEnds, FlowKind, FlowListener, FlowOutcome, Side};
pub(crate) use self::{flow::FlowBatch, runner::FlowRunner, sockets::FlowListeners};
