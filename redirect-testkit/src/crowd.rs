// SPDX-License-Identifier: MIT OR Apache-2.0
//! Many pods at once, as many as a node has: with less to each of them than a [`crate::Pod`] has.

use std::{
    fs,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result};

use crate::{
    cgroup::unified_mount,
    guard::Guard,
    identity::Identity,
    netns,
    pod::Pod,
    worker::{Entry, Worker},
};

/// Tells crowds of the same name in one process apart.
static SERIAL: AtomicU32 = AtomicU32::new(0);

/// Pods that a kubelet with a cgroup root of its own keeps. Dropping it kills what still runs in them
/// and removes them.
#[derive(Debug)]
pub struct Crowd {
    members: Vec<Member>,
    // Last: dropping it removes what the fields above name.
    _guard: Guard,
}

/// A pod of a crowd: a cgroup with `app` in it, and a network namespace with an address that leads
/// nowhere.
#[derive(Debug)]
pub struct Member {
    uid: String,
    cgroup: PathBuf,
    namespace: String,
}

impl Crowd {
    /// Makes so many; `name` is a few letters that will show up in cgroup and namespace names.
    pub fn new(name: &str, count: usize) -> Result<Self> {
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let name = format!("redirect-{name}-{}-{serial}", process::id());
        let root = unified_mount()?.join(&name);
        let pods = root.join("kubepods/besteffort");
        let members: Vec<_> = (0..count)
            .map(|number| {
                let uid = format!("{name}-{number}");
                Member {
                    cgroup: pods.join(format!("pod{uid}")),
                    namespace: uid.clone(),
                    uid,
                }
            })
            .collect();
        let namespaces: Vec<_> = members
            .iter()
            .map(|member| member.namespace.as_str())
            .collect();
        // The guard comes first: whatever is made after it will be removed.
        let guard = Guard::start(&[&root], &namespaces)?;
        netns::add_all(&namespaces)?;
        for member in &members {
            let app = member.cgroup.join("app");
            fs::create_dir_all(&app)
                .with_context(|| format!("making the cgroup {}", app.display()))?;
            netns::batch(
                &member.namespace,
                &format!("link set lo up\naddr add {}/32 dev lo\n", Pod::V4),
            )?;
        }
        Ok(Self {
            members,
            _guard: guard,
        })
    }

    /// The pods.
    pub fn members(&self) -> &[Member] {
        &self.members
    }
}

impl Member {
    /// The uid that the kubelet knows it by.
    pub fn uid(&self) -> &str {
        &self.uid
    }

    /// The pod's cgroup.
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// The file that stands for its network namespace.
    pub fn namespace(&self) -> PathBuf {
        netns::path(&self.namespace)
    }

    /// Starts a process in its `app`, whatever the identity's place.
    pub fn worker(&self, identity: &Identity) -> Result<Worker> {
        let app = self.cgroup.join("app");
        Worker::spawn(&Entry::new(Some(app), &self.namespace, identity))
    }
}
