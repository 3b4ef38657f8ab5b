// SPDX-License-Identifier: MIT OR Apache-2.0
//! A fleet: as many pods as a whole node has, each simpler than a [`crate::Pod`].

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

/// Makes the names of fleets unique within one process.
static SERIAL: AtomicU32 = AtomicU32::new(0);

/// Pods below the cgroup root of a kubelet. Dropping the fleet kills the processes in them and removes them.
#[derive(Debug)]
pub struct Fleet {
    pods: Vec<FleetPod>,
    // The last field, because dropping it removes everything that the fields above name.
    _guard: Guard,
}

/// A pod of a fleet: a cgroup with the child `app`, and a network namespace with an address but no link.
#[derive(Debug)]
pub struct FleetPod {
    uid: String,
    cgroup: PathBuf,
    namespace: String,
}

impl Fleet {
    /// Makes `count` pods. `name` is a few letters, which appear in the names of cgroups and namespaces.
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
        // The guard is started first, so that everything made after it is removed.
        let guard = Guard::start(&[&root], &namespaces)?;
        netns::add_all(&namespaces)?;
        for pod in &pods {
            let app = pod.cgroup.join("app");
            fs::create_dir_all(&app)
                .with_context(|| format!("make the cgroup {}", app.display()))?;
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

    /// The pods of the fleet.
    pub fn pods(&self) -> &[FleetPod] {
        &self.pods
    }
}

impl FleetPod {
    /// The uid by which the kubelet knows the pod.
    pub fn uid(&self) -> &str {
        &self.uid
    }

    /// The pod's cgroup.
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// The file of the pod's network namespace.
    pub fn namespace(&self) -> PathBuf {
        netns::path(&self.namespace)
    }

    /// Starts a worker in the pod's `app` cgroup; the identity's own cgroup is ignored.
    pub fn worker(&self, identity: &Identity) -> Result<Worker> {
        let app = self.cgroup.join("app");
        Worker::spawn(&WorkerSpec::new(Some(app), &self.namespace, identity))
    }
}
