// SPDX-License-Identifier: MIT OR Apache-2.0
//! A Kubernetes API server for tests: it serves pods and Events on loopback, and fails on demand in the
//! ways that real ones fail.
//!
//! A test changes the [`Cluster`] with [`ApiServer::with`]; watches see the changes as events. The test also
//! scripts how the next requests are answered, for example with [`Cluster::answer_next_list`]: with a status,
//! in pages, with an expired `continue` token, or not at all. A request without a script is answered well.

mod cluster;
mod list;
mod query;
mod response;
mod routes;
mod server;
mod shared;
mod watch;

pub use crate::{
    cluster::{Cluster, ClusterChange, ListAnswer, WatchAnswer},
    server::ApiServer,
};
