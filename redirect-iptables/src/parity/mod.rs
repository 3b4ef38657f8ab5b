//! The comparison of a policy's decisions with those of a pod's rules.
//!
//! Both decide the same connections, the probes. The probes are read off the pod's rules and off the rules that the
//! policy is rendered as. Decisions change only at an edge that one of these rules names. So every edge is probed, and
//! every value beside an edge, each combined with the values that other rules test.

mod compare;
mod dimension;
mod live;
mod policy_decision;
mod probe;
mod probes;
mod site;

pub use compare::{Comparison, Difference, UndecidedRule, compare};
pub use live::{LiveRules, live_rules};
pub use policy_decision::{PolicyDecision, policy_decision};
pub use probe::{Direction, Probe};
pub use probes::probes;
pub use site::Site;
