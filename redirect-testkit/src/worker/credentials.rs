// SPDX-License-Identifier: MIT OR Apache-2.0
//! Becoming who a worker should be: cgroup first, then namespace, then ids.
//!
//! Never call this with a second thread about: the system calls behind it change one thread only.

use anyhow::{Context as _, Result};
use rustix::{
    process::{Gid, Resource, Uid, getrlimit, setrlimit},
    thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};

use super::entry::Entry;
use crate::{cgroup, flows::Switchboard, netns};

/// Takes on the identity; the last step gives up the right to the others. Listeners of the world
/// are made before the first step, those of the pod after the last.
pub(super) fn take(entry: &Entry) -> Result<Option<Switchboard>> {
    let listening = match &entry.listening {
        Some(listening) => Some((listening, listening.of_the_world()?)),
        None => None,
    };
    if let Some(folder) = &entry.cgroup {
        cgroup::enter(folder)?;
    }
    netns::enter(&entry.namespace)?;
    raise_descriptor_limit();
    let groups: Vec<Gid> = entry.groups.iter().map(|&gid| Gid::from_raw(gid)).collect();
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    set_thread_groups(&groups).context("setting supplementary groups")?;
    set_thread_res_gid(gid, gid, gid).with_context(|| format!("becoming gid {}", entry.gid))?;
    set_thread_res_uid(uid, uid, uid).with_context(|| format!("becoming uid {}", entry.uid))?;
    listening
        .map(|(listening, made)| Switchboard::new(listening.of_the_pod(made)?))
        .transpose()
}

/// Tests hold thousands of connections; the soft limit is usually 1024.
fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Failing means fewer connections, which a test that needs them will say better.
    setrlimit(Resource::Nofile, limit).unwrap_or_default();
}
