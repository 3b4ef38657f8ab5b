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
    worker::{Worker, WorkerSpec},
};

/// Tells crowds of the same name in one process apart.
static SERIAL: AtomicU32 = AtomicU32::new(0);

/// Pods that a kubelet with a cgroup root of its own keeps. Dropping it kills what still runs in them
/// and removes them.
#[derive(Debug)]
pub struct Fleet {
    pods: Vec<FleetPod>,
    // Last: dropping it removes what the fields above name.
    _guard: Guard,
}

/// A pod of a crowd: a cgroup with `app` in it, and a network namespace with an address that leads
/// nowhere.
#[derive(Debug)]
pub struct FleetPod {
    uid: String,
    cgroup: PathBuf,
    namespace: String,
}

impl Fleet {
    /// Makes so many; `name` is a few letters that will show up in cgroup and namespace names.
    pub fn new(name: &str, count: usize) -> Result<Self> {
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let name = format!("redirect-{name}-{}-{serial}", process::id());
        let root = unified_mount()?.join(&name);
        let pods = root.join("kubepods/besteffort");
        let pods: Vec<_> = (0..count)
            .map(|number| {
                let uid = format!("{name}-{number}");
                FleetPod {
                    cgroup: pods.join(format!("pod{uid}")),
                    namespace: uid.clone(),
                    uid,
                }
            })
            .collect();
        let namespaces: Vec<_> = pods.iter().map(|pod| pod.namespace.as_str()).collect();
        // The guard comes first: whatever is made after it will be removed.
        let guard = Guard::start(&[&root], &namespaces)?;
        netns::add_all(&namespaces)?;
        for pod in &pods {
            let app = pod.cgroup.join("app");
            fs::create_dir_all(&app)
                .with_context(|| format!("making the cgroup {}", app.display()))?;
            netns::batch(
                &pod.namespace,
                &format!("link set lo up\naddr add {}/32 dev lo\n", Pod::V4),
            )?;
        }
        Ok(Self {
            pods,
            _guard: guard,
        })
    }

    /// The pods.
    pub fn pods(&self) -> &[FleetPod] {
        &self.pods
    }
}

impl FleetPod {
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
        Worker::spawn(&WorkerSpec::new(Some(app), &self.namespace, identity))
    }
}
