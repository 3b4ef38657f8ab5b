// SPDX-License-Identifier: MIT OR Apache-2.0
//! The setup of a worker process: it enters the cgroup first, then the network namespace, then takes on the ids.
//!
//! The process must have one thread only: the system calls used here change the calling thread only.

use anyhow::{Context as _, Result};
use rustix::{
    process::{Gid, Resource, Uid, getrlimit, setrlimit},
    thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};

use super::spec::WorkerSpec;
use crate::{cgroup, flows::FlowRunner, netns};

/// Takes on the identity. Changing the uid is the last step, because it gives up the right to the others. Listeners of
/// the world are made before the first step, those of the pod after the last.
pub(super) fn apply(spec: &WorkerSpec) -> Result<Option<FlowRunner>> {
    let listeners = match &spec.listeners {
        Some(listeners) => Some((listeners, listeners.open_in_world()?)),
        None => None,
    };
    if let Some(folder) = &spec.cgroup {
        cgroup::enter(folder)?;
    }
    netns::enter(&spec.namespace)?;
    raise_descriptor_limit();
    let groups: Vec<Gid> = spec.groups.iter().map(|&gid| Gid::from_raw(gid)).collect();
    let (uid, gid) = (Uid::from_raw(spec.uid), Gid::from_raw(spec.gid));
    set_thread_groups(&groups).context("set supplementary groups")?;
    set_thread_res_gid(gid, gid, gid).with_context(|| format!("set gid {}", spec.gid))?;
    set_thread_res_uid(uid, uid, uid).with_context(|| format!("set uid {}", spec.uid))?;
    listeners
        .map(|(listeners, made)| FlowRunner::new(listeners.open_in_pod(made)?))
        .transpose()
}

/// Raises the limit of open files: tests hold thousands of connections, and the soft limit is usually 1024.
fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // If this fails, a test that needs many connections fails with a clearer message.
    setrlimit(Resource::Nofile, limit).unwrap_or_default();
}
