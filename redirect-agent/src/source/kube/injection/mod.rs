//! Whether a pod is ours, and how it is redirected then: as Istio's CNI plugin decides it.

mod decision;
#[cfg(test)]
mod tests;

pub(super) use self::decision::{NotOurs, decide};
