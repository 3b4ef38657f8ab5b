//! The paths of all pins, below one state directory on a BPF file system:
//!
//! ```text
//! /sys/fs/bpf/redirect/        the state directory; locked by every command
//!   v6/                        the layout's version
//!     programs/connect4 …      one pin per hook
//!     maps/PODS …              one pin per map, META, IDS and POLICIES
//!     maps/CIDRS4-1 …          one pin per map of a policy
//!     pods/<cgroup id>/connect4 …   one pinned link per hook, and `inbound` with `-b`
//! ```

use std::path::{Path, PathBuf};

use redirect_common::{
    abi::{ABI_VERSION, IDS, META, MapName, POLICIES, PolicyId},
    hooks::Hook,
};

use crate::sys::cgroup::CgroupId;

/// The paths of all pins below a state directory.
#[derive(Clone, Debug)]
pub struct Pins {
    state_dir: PathBuf,
    version: PathBuf,
}

impl Pins {
    /// The state directory if no other is given.
    pub const DEFAULT_STATE_DIR: &'static str = "/sys/fs/bpf/redirect";
    /// The default state directory of `redirect-agent`, whose attachments are its own.
    pub const AGENT_STATE_DIR: &'static str = "/sys/fs/bpf/redirect-agent";

    /// The suffix of the names of folders that are not complete yet.
    pub const STAGING: &'static str = "-new";

    /// Whether this layout has a pin of this name: a program, link or map.
    pub fn is_ours(name: &str) -> bool {
        let programs = Hook::ALL
            .into_iter()
            .chain([Hook::SkLookup])
            .map(Hook::program);
        let maps = MapName::ALL.into_iter().map(MapName::name);
        programs.chain(maps).chain([META, IDS, POLICIES]).any(|known| known == name)
            // The map of a developer's build with log output.
            || name == "AYA_LOGS"
            || Self::policy_of(name).is_some()
    }

    /// The policy whose map has a pin of this name.
    pub fn policy_of(name: &str) -> Option<PolicyId> {
        let (map, id) = name.split_once('-')?;
        let is_per_policy = MapName::PER_POLICY.iter().any(|known| known.name() == map);
        let id = id.parse().ok().filter(|_| is_per_policy)?;
        Some(PolicyId(id))
    }

    /// Whether a folder of this name belongs to the layout of some version, complete or not.
    pub fn is_version(name: &str) -> bool {
        name.strip_prefix('v')
            .map(|rest| rest.trim_end_matches(Self::STAGING))
            .is_some_and(|number| number.parse::<u32>().is_ok())
    }

    /// Whether a folder of this name belongs to this layout, complete or not.
    pub fn is_this_layout(name: &str) -> bool {
        name.trim_end_matches(Self::STAGING) == format!("v{ABI_VERSION}")
    }

    /// Creates the paths below `state_dir` for the layout of this build.
    pub fn new(state_dir: &Path) -> Self {
        Self {
            state_dir: state_dir.to_owned(),
            version: state_dir.join(format!("v{ABI_VERSION}")),
        }
    }

    /// The state directory.
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// The folder of this layout.
    pub fn version(&self) -> &Path {
        &self.version
    }

    /// Whether programs and maps are loaded. `META` is the first pin that a removal removes, so an
    /// interrupted removal does not look like a usable state.
    pub fn is_loaded(&self) -> bool {
        self.meta().exists()
    }

    /// The folder in which a new version folder is created before it is renamed to
    /// [`Self::version`], so that the version folder exists completely or not at all.
    pub fn staging(&self) -> PathBuf {
        // bpffs allows no dots in names (kernel/bpf/inode.c, bpf_lookup).
        self.state_dir
            .join(format!("v{ABI_VERSION}{}", Self::STAGING))
    }

    /// The same paths below the staging folder.
    #[must_use]
    pub fn staged(&self) -> Self {
        Self {
            state_dir: self.state_dir.clone(),
            version: self.staging(),
        }
    }

    /// The folder of the programs.
    pub fn programs(&self) -> PathBuf {
        self.version.join("programs")
    }

    /// The folder in which new programs are prepared before they replace the pinned ones.
    pub fn new_programs(&self) -> PathBuf {
        self.version.join(format!("programs{}", Self::STAGING))
    }

    /// The folder of the maps.
    pub fn maps(&self) -> PathBuf {
        self.version.join("maps")
    }

    /// The folder that contains a folder per pod.
    pub fn pods(&self) -> PathBuf {
        self.version.join("pods")
    }

    /// The folder of a pod's links.
    pub fn pod(&self, id: CgroupId) -> PathBuf {
        self.pods().join(id.to_string())
    }

    /// The pin of a pod's link.
    pub fn link(&self, id: CgroupId, hook: Hook) -> PathBuf {
        self.pod(id).join(hook.program())
    }

    /// The pin of a program.
    pub fn program(&self, hook: Hook) -> PathBuf {
        self.programs().join(hook.program())
    }

    /// The pin of a map.
    pub fn map(&self, map: MapName) -> PathBuf {
        self.maps().join(map.name())
    }

    /// The pin of a policy's own map, whose element is in the array `map`.
    ///
    /// A pin beside the array lets a process with `CAP_BPF` alone open the map: to open it by the
    /// id that the array shows takes `CAP_SYS_ADMIN`.
    pub fn policy_map(&self, map: MapName, policy: PolicyId) -> PathBuf {
        self.maps().join(format!("{}-{}", map.name(), policy.0))
    }

    /// The pin of the map of id maps.
    pub fn ids(&self) -> PathBuf {
        self.maps().join(IDS)
    }

    /// The pin of the map of policies' records.
    pub fn policies(&self) -> PathBuf {
        self.maps().join(POLICIES)
    }

    /// The pin of the redirector's own state.
    pub fn meta(&self) -> PathBuf {
        self.maps().join(META)
    }
}
