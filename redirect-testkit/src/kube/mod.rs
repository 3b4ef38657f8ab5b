// SPDX-License-Identifier: MIT OR Apache-2.0
//! A Kubernetes API server for tests: it knows pods and Events, on loopback, and does on demand what
//! real ones do badly.

mod cluster;
mod listing;
mod server;
mod watching;

pub use self::{
    cluster::{Cluster, Happening, OnList, OnWatch},
    server::ApiServer,
};
