// SPDX-License-Identifier: MIT OR Apache-2.0
//! Becoming who a worker should be: cgroup first, then namespace, then ids.
//!
//! Never call this with a second thread about: the system calls behind it change one thread only.

use anyhow::{Context as _, Result};
use rustix::{
    process::{Gid, Resource, Uid, getrlimit, setrlimit},
    thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};

use super::spec::WorkerSpec;
use crate::{cgroup, flows::FlowRunner, netns};

/// Takes on the identity; the last step gives up the right to the others. Listeners of the world
/// are made before the first step, those of the pod after the last.
pub(super) fn apply(spec: &WorkerSpec) -> Result<Option<FlowRunner>> {
    let listening = match &spec.listening {
        Some(listening) => Some((listening, listening.open_in_world()?)),
        None => None,
    };
    if let Some(folder) = &spec.cgroup {
        cgroup::enter(folder)?;
    }
    netns::enter(&spec.namespace)?;
    raise_descriptor_limit();
    let groups: Vec<Gid> = spec.groups.iter().map(|&gid| Gid::from_raw(gid)).collect();
    let (uid, gid) = (Uid::from_raw(spec.uid), Gid::from_raw(spec.gid));
    set_thread_groups(&groups).context("setting supplementary groups")?;
    set_thread_res_gid(gid, gid, gid).with_context(|| format!("becoming gid {}", spec.gid))?;
    set_thread_res_uid(uid, uid, uid).with_context(|| format!("becoming uid {}", spec.uid))?;
    listening
        .map(|(listening, made)| FlowRunner::new(listening.open_in_pod(made)?))
        .transpose()
}

/// Tests hold thousands of connections; the soft limit is usually 1024.
fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Failing means fewer connections, which a test that needs them will say better.
    setrlimit(Resource::Nofile, limit).unwrap_or_default();
}
