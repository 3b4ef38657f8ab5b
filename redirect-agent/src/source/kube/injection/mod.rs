//! The injection rules of Istio's CNI plugin: whether a pod is managed, and its policy.

mod decision;
mod gates;
#[cfg(test)]
mod tests;

pub(super) use self::{decision::decide, gates::SkipReason};
