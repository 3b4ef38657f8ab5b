//! The removal of everything that the redirector has created, whichever version created it and
//! however that version ended.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use redirect_common::abi::META;
use serde::Serialize;

use super::{
    contents::{Contents, children, name, remove_dir},
    drain::drain,
    layout_folders::attached_by_others,
    reader::Reader,
    recovery::recover,
};
use crate::{
    bpf::{Maps, Pins},
    sys::{bpf, bpffs, capability, cgroup::CgroupId, dir_lock::DirLock},
};

/// The result of a removal, with the foreign files that were found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Removed {
    /// Number of cgroups that had links.
    pub cgroups: usize,
    /// Number of removed pins: links, programs and maps.
    pub pins: usize,
    /// Files that no version of the redirector creates. They were left alone.
    pub foreign: Vec<PathBuf>,
}

impl Removed {
    /// Fails with an error that names the foreign files, if they are the reason why `folder` still
    /// exists.
    pub fn complete(&self, folder: &Path) -> Result<()> {
        let foreign: Vec<_> = self
            .foreign
            .iter()
            .map(|path| format!("\"{}\"", path.display()))
            .collect();
        if !foreign.is_empty() {
            bail!(
                "remove \"{}\": it contains files that this program did not create: {}: remove them first",
                folder.display(),
                foreign.join(", ")
            );
        }
        Ok(())
    }
}

/// The cgroups that versions of any layout have attached. If the state of this layout cannot be
/// read, all cgroups with a folder of links.
pub fn attached_anywhere(state_dir: &Path) -> Result<BTreeSet<CgroupId>> {
    capability::require(&capability::NEEDED)?;
    bpffs::check(state_dir)?;
    let mut found = attached_by_others(state_dir)?;
    match Reader::open(state_dir) {
        Ok(Some(reader)) => found.extend(reader.pods()?.iter().map(|pod| pod.id)),
        Ok(None) => {}
        Err(_) => {
            let folders = children(&Pins::new(state_dir).pods())?;
            found.extend(folders.iter().flat_map(|pod| name(pod).parse::<CgroupId>()));
        }
    }
    Ok(found)
}

/// Detaches every pod and removes the state directory. Open connections stay open.
pub fn uninstall(state_dir: &Path) -> Result<Removed> {
    let mut removed = Removed::default();
    capability::require(&capability::NEEDED)?;
    bpffs::check(state_dir)?;
    let Some(_lock) = DirLock::exclusive(state_dir, DirLock::PATIENCE)? else {
        return Ok(removed);
    };
    let pins = Pins::new(state_dir);
    // Even if pins are gone, all hooks of a pod should stop at once. An error leaves the pins as they are.
    drop(recover(&pins));
    let deactivated = deactivate(&pins)?;
    drain(&deactivated)?;
    sweep(state_dir, &mut removed)?;
    Ok(removed)
}

/// Deactivates every pod, so that all hooks of a pod stop redirecting at once, and returns the
/// cgroups. If the pins are not this version's, none is deactivated, and their links are removed
/// later.
fn deactivate(pins: &Pins) -> Result<Vec<CgroupId>> {
    let Ok(mut maps) = Maps::open(pins) else {
        return Ok(Vec::new());
    };
    let pods = children(&pins.pods())?;
    let ids: Vec<_> = pods.iter().flat_map(|pod| name(pod).parse()).collect();
    for &id in &ids {
        maps.inbound_mut().remove_row(id)?;
        maps.deactivate_row(id)?;
    }
    Ok(ids)
}

/// Removes the version folders of all layouts; see [`Pins`].
pub(super) fn sweep(state_dir: &Path, removed: &mut Removed) -> Result<()> {
    for version in children(state_dir)? {
        if !Pins::is_version(&name(&version)) {
            removed.foreign.push(version);
            continue;
        }
        sweep_version(&version, removed)?;
    }
    remove_dir(state_dir)
}

/// Removes the rest of a version folder that is not loaded, so that it can be created anew.
pub(super) fn clear(version: &Path) -> Result<()> {
    if !version.exists() {
        return Ok(());
    }
    let mut removed = Removed::default();
    sweep_version(version, &mut removed)?;
    removed.complete(version)
}

/// Removes a version folder and everything in it that the redirector has created.
pub(super) fn sweep_version(version: &Path, removed: &mut Removed) -> Result<()> {
    // META goes first, so that no process takes a partly removed folder for a usable one.
    let meta = version.join("maps").join(META);
    if meta.exists() {
        remove_pin(&meta, removed)?;
    }
    let Contents {
        cgroups,
        pins,
        folders,
        foreign,
    } = Contents::of(version)?;
    removed.cgroups = removed.cgroups.saturating_add(cgroups);
    for pin in &pins {
        // Not every pin is a link. A link that cannot be detached ends with its pin, a little
        // later.
        drop(bpf::detach(pin));
        remove_pin(pin, removed)?;
    }
    removed.foreign.extend(foreign);
    // A folder that still exists after this contains something foreign.
    folders.iter().try_for_each(|folder| remove_dir(folder))
}

fn remove_pin(pin: &Path, removed: &mut Removed) -> Result<()> {
    fs::remove_file(pin).with_context(|| format!("remove \"{}\"", pin.display()))?;
    removed.pins = removed.pins.saturating_add(1);
    Ok(())
}
