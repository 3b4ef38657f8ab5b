// SPDX-License-Identifier: MIT OR Apache-2.0
//! Real iptables in a pod's namespace: the oracle that the eBPF programs are compared with.

mod backend;
mod istio;
mod restore;

pub use self::{
    backend::{Backend, Family},
    istio::{Include, IstioRules, OwnerGroups},
    restore::{apply, apply_istio, check, clear, listing},
};
