// SPDX-License-Identifier: MIT OR Apache-2.0
//! The real Envoy as a pod's sidecar.

mod admin;
mod bootstrap;
mod sidecar;
mod stats;

pub use self::{sidecar::Envoy, stats::EnvoyStats};
