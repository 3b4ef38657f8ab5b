//! The semantics of the redirector and the layout of its maps, shared by kernel and user space.
//!
//! A **flow** is what a hook sees of one connection. Its **facts** under a pod's **policy** are
//! gathered first ([`facts::gather`]); then one ordered table of **rules** is walked and the first
//! match gives the **verdict** ([`decide::decide`]). Nothing else in the repository decides.
//!
//! Used by: the BPF programs, and by user space for compiling policies, explaining live ones and
//! rendering the tables of the documentation.
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
