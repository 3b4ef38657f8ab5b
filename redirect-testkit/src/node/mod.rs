// SPDX-License-Identifier: MIT OR Apache-2.0
//! Nodes: the real containerd, runc and CNI plugins, in namespaces and a cgroup of their own.
//!
//! A node's cgroup is the root of a cgroup namespace, so that a program inside sees only cgroup v2 and cannot reach
//! the machine's other cgroups. A node has a network of its own, which leads to a [`crate::World`], a BPF file
//! system, and a `/run`. All its processes, shims included, are below its cgroup, and all its mounts are in its mount
//! namespace: removing both removes everything.
//!
//! Images are made of the test's own binary, and come from no registry.

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
