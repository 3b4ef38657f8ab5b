//! A scene under the programs, and the folder that its state is in.

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

/// Tells folders of the same name in one process apart.
static SERIAL: AtomicU32 = AtomicU32::new(0);

/// An owner folder of this test alone; uninstalled on drop.
#[derive(Debug)]
pub(crate) struct OwnerFolder {
    path: PathBuf,
    // Last: whatever is left there, also if this process is killed.
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

    /// Where it is.
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

/// What there is in and around a pod.
pub(crate) trait Surroundings {
    /// The pod.
    fn pod(&self) -> &redirect_testkit::Pod;
}

impl Surroundings for Scene {
    fn pod(&self) -> &redirect_testkit::Pod {
        &self.pod
    }
}

/// A pod that is redirected.
#[derive(Debug)]
pub(crate) struct Redirected<S = Scene> {
    // First: uninstalled while the pod still is.
    pub(crate) owner: OwnerFolder,
    pub(crate) cgroup: Cgroup,
    pub(crate) scene: S,
}

impl Redirected {
    /// A scene, attached with a configuration, and with IPv6 on: the pods' first address is IPv4.
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

    /// The pod as the redirector knows it.
    pub(crate) fn pod(&self, reader: &Reader) -> Result<node::Pod> {
        reader.pod(self.cgroup.id(), self.cgroup.path())
    }

    /// Gives it another configuration.
    pub(crate) fn update(&self, config: &RedirectConfig) -> Result<()> {
        let mut writer = self.owner.writer()?;
        let pod = self.pod(&writer)?;
        // Inbound connections cannot be redirected without it.
        let netns = (!config.inbound.is_none()).then(|| netns(self.scene.pod()));
        Ok(writer.update(&pod, netns.transpose()?.as_ref(), &dual_stack(config))?)
    }

    /// The same, with IPv6 on only if the configuration says so.
    pub(crate) fn update_exactly(&self, config: &RedirectConfig) -> Result<()> {
        let mut writer = self.owner.writer()?;
        let pod = self.pod(&writer)?;
        Ok(writer.update(&pod, Some(&netns(self.scene.pod())?), config)?)
    }

    /// Detaches it.
    pub(crate) fn detach(&self) -> Result<()> {
        let mut writer = self.owner.writer()?;
        let pod = self.pod(&writer)?;
        writer.detach(&[pod])
    }

    /// Its counters.
    pub(crate) fn hits(&self) -> Result<Hits> {
        let reader = self.owner.reader()?;
        let pod = self.pod(&reader)?;
        reader.hits(&pod)
    }

    /// Handshakes under way, of this owner folder's pods.
    pub(crate) fn flows(&self) -> Result<usize> {
        self.owner.reader()?.flows()
    }
}

/// The same configuration with `--dual-stack`.
pub(crate) fn dual_stack(config: &RedirectConfig) -> RedirectConfig {
    RedirectConfig {
        dual_stack: true,
        ..config.clone()
    }
}

/// What the redirector reads of a pod's namespace.
pub(crate) fn netns(pod: &redirect_testkit::Pod) -> Result<NetnsSnapshot> {
    NetnsSnapshot::read(&NetnsRef::Path(pod.namespace()))
}

/// How many ranges a pod's policy was given.
pub(crate) fn ranges_of(reader: &Reader, pod: &node::Pod) -> Result<usize> {
    let counts = reader.cidr_counts()?;
    Ok(counts.get(&pod.row.policy).copied().unwrap_or_default())
}

/// The rules whose counters moved, and by how much.
pub(crate) fn moved(before: &Hits, after: &Hits) -> BTreeMap<&'static str, u64> {
    RuleId::ALL
        .into_iter()
        .map(|rule| (rule.name(), after.of(rule).wrapping_sub(before.of(rule))))
        .filter(|(_, count)| *count != 0)
        .collect()
}
