// SPDX-License-Identifier: MIT OR Apache-2.0
//! A Kubernetes API server for tests: it knows pods and Events, on loopback, and does on demand what
//! real ones do badly.

mod answer;
mod cluster;
mod listing;
mod query;
mod routes;
mod server;
mod shared;
mod watching;

pub use crate::{
    cluster::{Cluster, Happening, OnList, OnWatch},
    server::ApiServer,
};
