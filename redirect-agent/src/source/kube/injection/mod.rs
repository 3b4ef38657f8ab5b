//! Whether a pod is ours, and how it is redirected then: as Istio's CNI plugin decides it.

mod decision;
mod gates;
#[cfg(test)]
mod tests;

pub(super) use self::{decision::decide, gates::SkipReason};
