//! A packet's walk through the chains, with the kernel's semantics.
//!
//! A condition holds, does not hold, or is not understood. A rule that might match and has a target that matters ends
//! the walk without a verdict, and is named. Every walk ends: chains are followed to a depth and for a number of rules
//! that no real text comes near.

mod answer;
#[cfg(test)]
mod tests;
mod walk;

pub use answer::{Answer, DecidedBy, Verdict};
pub use walk::{inbound, outbound};
