//! Cgroups that a version with another layout of the maps has attached, below the same state directory.
//!
//! Nothing in those maps can be read here, nor a row of theirs be switched off. What all versions have
//! in common are the folders and the names of those links in them that decide ([`Pins`](crate::bpf::Pins)), and
//! that is enough to take over:
//!
//! 1. The cgroup is attached here. For a moment both decide: the older one first, and what it has
//!    redirected goes to a loopback address, which the newer one leaves alone.
//! 2. The older one's programs that decide are detached. It is *silent* then, and the others go on answering
//!    for what it has redirected: handshakes under way, connections that the proxy has not asked about.
//! 3. After [`GRACE`] they go too.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result};
use redirect_common::hooks::Hook;

use super::{
    Reader, Writer,
    contents::{Contents, children, name, remove_dir},
    drain::drain,
    uninstall::{Removed, sweep_version},
};
use crate::{
    bpf::Pins,
    sys::{
        bpf::{cgroup_of_link, remove},
        cgroup::CgroupId,
    },
};

/// How long programs go on answering: longer than the kernel tries to get a connection established, twice
/// over (`tcp_syn_retries`, `tcp_synack_retries`: 127 and 63 seconds).
const GRACE: Duration = Duration::from_mins(10);

/// The programs that decide, in the order in which they are detached.
const DECIDING: [Hook; 5] = [
    Hook::SkLookup,
    Hook::Connect6,
    Hook::Connect4,
    Hook::SendMsg6,
    Hook::SendMsg4,
];

/// The cgroups below a state directory that programs of another layout decide about.
pub fn attached_by_others(state_dir: &Path) -> Result<BTreeSet<CgroupId>> {
    let mut found = BTreeSet::new();
    for version in others(&Pins::new(state_dir))? {
        for pod in pods(&version)? {
            if let Some(id) = decides(&pod)? {
                found.insert(id);
            }
        }
    }
    Ok(found)
}

impl Reader {
    /// Whether another layout's programs have answered for long enough.
    pub(super) fn any_others_expired(&self) -> Result<bool> {
        for version in others(&self.pins)? {
            if is_expired(&version)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Writer {
    /// Detaches those programs of other layouts that decide about a cgroup. The others go on answering for what
    /// was redirected so far, for ten minutes and then until the next change.
    pub fn deactivate_others(&self, id: CgroupId) -> Result<()> {
        for version in others(&self.pins)? {
            let pod = version.join("pods").join(id.to_string());
            for hook in DECIDING {
                remove(&pod.join(hook.program()))?;
            }
        }
        Ok(())
    }

    /// Detaches all programs of other layouts from cgroups.
    pub fn detach_others(&self, ids: &[CgroupId]) -> Result<()> {
        let mut decided = attached_by_others(self.pins.state_dir())?;
        decided.retain(|id| ids.contains(id));
        for &id in ids {
            self.deactivate_others(id)?;
        }
        let decided: Vec<_> = decided.into_iter().collect();
        drain(&decided)?;
        let pods = |version: PathBuf| {
            ids.iter()
                .map(move |id| version.join("pods").join(id.to_string()))
        };
        for pod in others(&self.pins)?.into_iter().flat_map(pods) {
            if !pod.is_dir() {
                continue;
            }
            // Whatever their names are: another layout may have hooks that this one does not know.
            for link in children(&pod)?.iter().filter(|path| !path.is_dir()) {
                remove(link)?;
            }
            remove_dir(&pod)?;
        }
        self.collect_others()
    }

    /// Removes what has answered for long enough.
    pub(super) fn collect_others(&self) -> Result<()> {
        for version in others(&self.pins)? {
            if is_expired(&version)? {
                // What is foreign in it stays, as everywhere.
                sweep_version(&version, &mut Removed::default())?;
            }
        }
        Ok(())
    }
}

/// The folders of other layouts.
fn others(pins: &Pins) -> Result<Vec<PathBuf>> {
    if !pins.state_dir().exists() {
        return Ok(Vec::new());
    }
    let is_other = |path: &PathBuf| {
        path != pins.version() && *path != pins.staging() && Pins::is_version(&name(path))
    };
    Ok(children(pins.state_dir())?
        .into_iter()
        .filter(is_other)
        .collect())
}

/// The folders of a layout's cgroups.
fn pods(version: &Path) -> Result<Vec<PathBuf>> {
    let folder = version.join("pods");
    if folder.is_dir() {
        children(&folder)
    } else {
        Ok(Vec::new())
    }
}

/// The cgroup that some program in a folder decides about; `None` if none does, or if the cgroup is gone.
fn decides(pod: &Path) -> Result<Option<CgroupId>> {
    for hook in DECIDING {
        let link = pod.join(hook.program());
        // A namespace is not a cgroup: what decides there does not do so alone.
        if hook != Hook::SkLookup && link.exists() {
            let cgroup = cgroup_of_link(&link)?;
            return Ok(cgroup.filter(|id| name(pod) == id.to_string()));
        }
    }
    Ok(None)
}

/// Whether nothing in a layout's folder decides any more, and what does not has answered for long enough, and is
/// ours.
fn is_expired(version: &Path) -> Result<bool> {
    if !Contents::of(version)?.has_ours() {
        return Ok(false);
    }
    for pod in pods(version)? {
        if decides(&pod)?.is_some() || !is_old(&pod)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether the last link that went from a cgroup's folder did so long ago, or the cgroup is gone. The
/// kernel writes down when a folder was changed.
fn is_old(pod: &Path) -> Result<bool> {
    let answering = pod.join(Hook::SockOps.program());
    if !answering.exists() || cgroup_of_link(&answering)?.is_none() {
        return Ok(true);
    }
    let changed = fs::metadata(pod).and_then(|metadata| metadata.modified());
    let changed = changed.with_context(|| format!("look at \"{}\"", pod.display()))?;
    // A clock that was set back does not keep them for ever: it goes on.
    let age = SystemTime::now().duration_since(changed);
    Ok(age.is_ok_and(|age| age >= GRACE))
}
