//! The takeover of cgroups that a version with another layout of the maps has attached below the same
//! state directory.
//!
//! The rows of another layout can neither be read nor deactivated. A takeover detaches its programs
//! instead, in three steps:
//!
//! 1. The cgroup is attached in this layout. For a moment the programs of both layouts decide: the
//!    older ones first, and their connections go to a loopback address, which the newer ones leave
//!    alone.
//! 2. The older programs that decide are detached. The others still answer for the connections that
//!    were redirected: handshakes in progress, and connections whose original destination the proxy
//!    has not read yet.
//! 3. After ten minutes the other programs are removed too.

use std::path::PathBuf;

use anyhow::Result;

use super::{
    contents::{children, remove_dir},
    drain::drain,
    layout_folders::{DECIDING, attached_by_others, is_expired, other_versions},
    uninstall::{Removed, sweep_version},
    writer::Writer,
};
use crate::sys::{bpf::remove, cgroup::CgroupId};

impl Writer {
    /// Detaches the programs of other layouts that decide for a cgroup. The others still answer for
    /// the connections that were redirected, for ten minutes and then until the next change.
    pub fn deactivate_others(&self, id: CgroupId) -> Result<()> {
        for version in other_versions(&self.pins)? {
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
        for pod in other_versions(&self.pins)?.into_iter().flat_map(pods) {
            if !pod.is_dir() {
                continue;
            }
            // All links, whatever their names: another layout may have hooks that this one lacks.
            for link in children(&pod)?.iter().filter(|path| !path.is_dir()) {
                remove(link)?;
            }
            remove_dir(&pod)?;
        }
        self.collect_others()
    }

    /// Removes the folders of other layouts whose programs have answered for long enough.
    pub(super) fn collect_others(&self) -> Result<()> {
        for version in other_versions(&self.pins)? {
            if is_expired(&version)? {
                // Foreign files in the folder stay.
                sweep_version(&version, &mut Removed::default())?;
            }
        }
        Ok(())
    }
}
