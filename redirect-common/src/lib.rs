//! The semantics of the redirector and the layout of its maps, shared by kernel and user space.
//!
//! A **flow** is one connection, or one datagram, as a hook sees it. First the **facts** about the
//! flow under a pod's **policy** are gathered ([`facts::gather`]). Then one ordered table of
//! **rules** is walked, and the first rule that matches gives the **verdict** ([`decide::decide`]).
//! No other code in the repository decides about a flow.
//!
//! The BPF programs and user space compile the same code: user space compiles policies with it,
//! explains live connections and renders the tables of the documentation.
#![no_std]
#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::integer_division,
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::float_arithmetic
)]

pub mod abi;
pub mod chain;
pub mod decide;
pub mod facts;
pub mod hooks;
pub mod loopback_pool;
pub mod net;
mod pod;
