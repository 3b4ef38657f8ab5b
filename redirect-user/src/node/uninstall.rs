//! Removing everything that is ours, whichever version made it and however it ended.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use redirect_common::abi::META;
use serde::Serialize;

use super::{
    Reader,
    contents::{Contents, children, name, remove_dir},
    drain::drain,
    other_layouts::attached_by_others,
};
use crate::{
    bpf::{Maps, Pins},
    sys::{bpf, bpffs, capability, cgroup::CgroupId, dir_lock::DirLock},
};

/// What was removed, and what was found that is not ours.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Removed {
    /// Cgroups that had links.
    pub cgroups: usize,
    /// Pins: links, programs and maps.
    pub pins: usize,
    /// Left alone: no version of the redirector makes these.
    pub foreign: Vec<PathBuf>,
}

impl Removed {
    /// An error that names what is not ours, if that is why `folder` is still there.
    pub fn complete(&self, folder: &Path) -> Result<()> {
        let foreign: Vec<_> = self
            .foreign
            .iter()
            .map(|path| format!("\"{}\"", path.display()))
            .collect();
        if !foreign.is_empty() {
            bail!(
                "remove \"{}\": it contains files that this program did not make: remove them first: {}",
                folder.display(),
                foreign.join(", ")
            );
        }
        Ok(())
    }
}

/// The cgroups that versions of any layout have attached. Where this layout's state cannot be read, those that
/// have a folder of links.
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

/// Detaches every pod and removes the state directory. Connections that are open stay open.
pub fn uninstall(state_dir: &Path) -> Result<Removed> {
    let mut removed = Removed::default();
    capability::require(&capability::NEEDED)?;
    bpffs::check(state_dir)?;
    let Some(_lock) = DirLock::exclusive(state_dir)? else {
        return Ok(removed);
    };
    let silenced = deactivate(&Pins::new(state_dir))?;
    drain(&silenced)?;
    sweep(state_dir, &mut removed)?;
    Ok(removed)
}

/// Switches every pod off, so that all hooks of one stop redirecting at once, and tells which ones. Where the pins
/// are not this version's, their links just go.
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

/// Removes the known layout of any version; see [`Pins`].
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

/// Removes what is left of a version folder that is not loaded, so that it can be made anew.
pub(super) fn clear(version: &Path) -> Result<()> {
    if !version.exists() {
        return Ok(());
    }
    let mut removed = Removed::default();
    sweep_version(version, &mut removed)?;
    removed.complete(version)
}

/// Removes a version's folder, and all in it that is ours.
pub(super) fn sweep_version(version: &Path, removed: &mut Removed) -> Result<()> {
    // First of all, so that nobody takes what is half removed for something to work with.
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
        // Not every pin is a link. What cannot be detached ends with its pin, a little later.
        drop(bpf::detach(pin));
        remove_pin(pin, removed)?;
    }
    removed.foreign.extend(foreign);
    // Those that are still there then have something foreign in them.
    folders.iter().try_for_each(|folder| remove_dir(folder))
}

fn remove_pin(pin: &Path, removed: &mut Removed) -> Result<()> {
    fs::remove_file(pin).with_context(|| format!("remove \"{}\"", pin.display()))?;
    removed.pins = removed.pins.saturating_add(1);
    Ok(())
}
