// SPDX-License-Identifier: MIT OR Apache-2.0
//! A node in a box: the real containerd, runc and CNI plugins, in namespaces and a cgroup of their own.
//!
//! Its cgroup is the root of a cgroup namespace, so that inside there is nothing but cgroup v2, and
//! nothing inside reaches the machine's other cgroups. It has a network of its own, which leads
//! to a [`World`], a BPF file system and a `/run`. Processes, shims included, are all below that cgroup,
//! and mounts in that mount namespace: the end of both is the end of everything.
//!
//! Images are made here of the test's own binary, and come from no registry.

mod container;
mod containerd;
mod cri;
mod env;
mod image;
mod machine;
mod messages;
mod program;
mod sandbox;
mod worker_socket;

pub use self::{
    container::Container,
    containerd::IMAGE,
    machine::Node,
    program::Program,
    sandbox::{PodName, Sandbox},
    worker_socket::WorkerSocket,
};
