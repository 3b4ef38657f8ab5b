//! Random policies and flows, where differences are most likely: ranges inside one another, and connections at the
//! edges of everything that a policy names.

mod edges;
mod flow;
mod generator;
mod policy;

pub(super) use self::{generator::Generator, policy::has_resolver};
