//! A pod with the programs attached, and the directory with their state.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result};
use redirect_common::{abi::Hits, chain::RuleId};
use redirect_testkit::GuardedFolder;
use redirect_user::{
    config::RedirectConfig,
    node::{self, Reader, Writer, uninstall},
    sys::{
        cgroup::Cgroup,
        netns::{NetnsRef, NetnsSnapshot},
    },
};

use super::Scene;

/// Makes the names of directories unique within one process.
static SERIAL: AtomicU32 = AtomicU32::new(0);

/// A state directory of one test alone. Dropping it uninstalls everything there.
#[derive(Debug)]
pub(crate) struct OwnerFolder {
    path: PathBuf,
    // The last field: the guard removes the remains, also if this process is killed.
    _guard: GuardedFolder,
}

impl OwnerFolder {
    pub(crate) fn new(name: &str) -> Self {
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let folder = format!("redirect-test-{}-{name}-{serial}", std::process::id());
        let path = Path::new(redirect_user::sys::bpffs::MOUNT_POINT).join(folder);
        let guard = GuardedFolder::guard(&path).expect("a guard");
        Self {
            path,
            _guard: guard,
        }
    }

    /// The path of the directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn writer(&self) -> Result<Writer> {
        Writer::open(&self.path)
    }

    pub(crate) fn reader(&self) -> Result<Reader> {
        Reader::open(&self.path)?.context("nothing is attached")
    }
}

impl Drop for OwnerFolder {
    fn drop(&mut self) {
        if let Err(error) = uninstall(&self.path) {
            eprintln!("uninstall {}: {error:#}", self.path.display());
        }
    }
}

/// A pod with everything in and around it: servers, workers, a world.
pub(crate) trait Surroundings {
    /// The pod.
    fn pod(&self) -> &redirect_testkit::Pod;
}

impl Surroundings for Scene {
    fn pod(&self) -> &redirect_testkit::Pod {
        &self.pod
    }
}

/// A pod with the programs attached.
#[derive(Debug)]
pub(crate) struct Redirected<S = Scene> {
    // The first field: it is uninstalled while the pod still exists.
    pub(crate) owner: OwnerFolder,
    pub(crate) cgroup: Cgroup,
    pub(crate) scene: S,
}

impl Redirected {
    /// Makes a scene and attaches its pod with a configuration, and with IPv6 on: the pod's first address is IPv4.
    pub(crate) fn new(name: &str, config: &RedirectConfig) -> Result<Self> {
        Self::attach(name, Scene::new(name)?, config)
    }
}

impl<S: Surroundings> Redirected<S> {
    /// Attaches a scene's pod.
    pub(crate) fn attach(name: &str, scene: S, config: &RedirectConfig) -> Result<Self> {
        let owner = OwnerFolder::new(name);
        let cgroup = Cgroup::open(scene.pod().cgroup().path())?;
        let netns = netns(scene.pod())?;
        owner
            .writer()?
            .attach(&cgroup, &netns, &dual_stack(config))?;
        Ok(Self {
            owner,
            cgroup,
            scene,
        })
    }

    /// The pod as the library lists it.
    pub(crate) fn pod(&self, reader: &Reader) -> Result<node::Pod> {
        reader.pod(self.cgroup.id(), self.cgroup.path())
    }

    /// Updates the pod to another configuration, with IPv6 on.
    pub(crate) fn update(&self, config: &RedirectConfig) -> Result<()> {
        let mut writer = self.owner.writer()?;
        let pod = self.pod(&writer)?;
        // Redirecting inbound connections requires the namespace.
        let netns = (!config.inbound.is_none()).then(|| netns(self.scene.pod()));
        Ok(writer.update(&pod, netns.transpose()?.as_ref(), &dual_stack(config))?)
    }

    /// Updates the pod to exactly this configuration.
    pub(crate) fn update_exactly(&self, config: &RedirectConfig) -> Result<()> {
        let mut writer = self.owner.writer()?;
        let pod = self.pod(&writer)?;
        Ok(writer.update(&pod, Some(&netns(self.scene.pod())?), config)?)
    }

    /// Detaches the pod.
    pub(crate) fn detach(&self) -> Result<()> {
        let mut writer = self.owner.writer()?;
        let pod = self.pod(&writer)?;
        writer.detach(&[pod])
    }

    /// The pod's counters.
    pub(crate) fn hits(&self) -> Result<Hits> {
        let reader = self.owner.reader()?;
        let pod = self.pod(&reader)?;
        reader.hits(&pod)
    }

    /// The number of handshakes under way in all pods of this state directory.
    pub(crate) fn flows(&self) -> Result<usize> {
        self.owner.reader()?.flows()
    }
}

/// Adds `--dual-stack` to a configuration.
pub(crate) fn dual_stack(config: &RedirectConfig) -> RedirectConfig {
    RedirectConfig {
        dual_stack: true,
        ..config.clone()
    }
}

/// Reads a pod's network namespace, as the command does before it attaches a pod.
pub(crate) fn netns(pod: &redirect_testkit::Pod) -> Result<NetnsSnapshot> {
    NetnsSnapshot::read(&NetnsRef::Path(pod.namespace()))
}

/// The number of ranges in a pod's policy.
pub(crate) fn ranges_of(reader: &Reader, pod: &node::Pod) -> Result<usize> {
    let counts = reader.cidr_counts()?;
    Ok(counts.get(&pod.row.policy).copied().unwrap_or_default())
}

/// The rules whose counters moved between two readings, with the difference.
pub(crate) fn moved(before: &Hits, after: &Hits) -> BTreeMap<&'static str, u64> {
    RuleId::ALL
        .into_iter()
        .map(|rule| (rule.name(), after.of(rule).wrapping_sub(before.of(rule))))
        .filter(|(_, count)| *count != 0)
        .collect()
}
