//! Whether a policy decides as the rules of a pod do.
//!
//! Both are asked about the same connections. Which ones is read off the rules themselves, and off
//! those that the policy stands for: what decides differently on two sides of an edge that neither
//! mentions does not exist, so every edge is probed, and every value beside it, each with the
//! values that other rules ask for.
//!
//! Depends on `netfilter`, `policy` and redirect-common's decision. Used by the command line.

mod compare;
mod dimension;
mod live;
mod ours;
mod probe;
mod probes;
mod site;

pub use compare::{Compared, Difference, Undecided, compare};
pub use live::{LiveRules, live_rules};
pub use ours::{Ours, decided};
pub use probe::{Direction, Probe};
pub use probes::probes;
pub use site::Site;
