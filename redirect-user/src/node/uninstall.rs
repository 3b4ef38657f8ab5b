//! Removing everything that is ours, whichever version made it and however it ended.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use redirect_common::abi::META;
use serde::Serialize;

use super::hand_over::hand_over;
use crate::{
    bpf::{Maps, Pins},
    sys::{bpf, bpffs, capability, cgroup::CgroupId, dir_lock::DirLock},
};

/// What was removed, and what was found that is not ours.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Removed {
    /// Attached pods.
    pub pods: usize,
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
                "remove \"{}\": not all in it is ours, look what it is: {}",
                folder.display(),
                foreign.join(", ")
            );
        }
        Ok(())
    }
}

/// Detaches every pod and removes the owner folder. Connections that are open stay open.
pub fn uninstall(owner: &Path) -> Result<Removed> {
    let mut removed = Removed::default();
    capability::require(&capability::NEEDED)?;
    bpffs::check(owner)?;
    let Some(_lock) = DirLock::exclusive(owner)? else {
        return Ok(removed);
    };
    let silenced = deactivate(&Pins::new(owner))?;
    hand_over(&silenced)?;
    sweep(owner, &mut removed)?;
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
        maps.silence_row(id)?;
    }
    Ok(ids)
}

/// Removes the known layout of any version; see [`Pins`].
pub(super) fn sweep(owner: &Path, removed: &mut Removed) -> Result<()> {
    for version in children(owner)? {
        if !Pins::is_version(&name(&version)) {
            removed.foreign.push(version);
            continue;
        }
        sweep_version(&version, removed)?;
    }
    remove_dir(owner)
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

/// The folders of a version.
const PARTS: [&str; 4] = ["pods", "programs", "programs-new", "maps"];

/// Removes a version's folder, and all in it that is ours.
pub(super) fn sweep_version(version: &Path, removed: &mut Removed) -> Result<()> {
    // First of all, so that nobody takes what is half removed for something to work with.
    let meta = version.join("maps").join(META);
    if meta.exists() {
        remove_pin(&meta, removed)?;
    }
    // Then links: a program goes with its last link and pin.
    for part in PARTS {
        let folder = version.join(part);
        if !folder.is_dir() {
            continue;
        }
        if part == "pods" {
            for pod in children(&folder)? {
                if name(&pod).parse::<u64>().is_ok() {
                    removed.pods = removed.pods.saturating_add(1);
                    empty(&pod, removed)?;
                } else {
                    removed.foreign.push(pod);
                }
            }
            remove_dir(&folder)?;
        } else {
            empty(&folder, removed)?;
        }
    }
    // Those of its own folders that are still there have something foreign in them, named above.
    let others = children(version)?
        .into_iter()
        .filter(|path| !PARTS.contains(&name(path).as_str()));
    removed.foreign.extend(others);
    remove_dir(version)
}

/// Removes the pins in a folder, first detaching those that are links, connect hooks first, and the folder.
fn empty(folder: &Path, removed: &mut Removed) -> Result<()> {
    let mut pins = children(folder)?;
    pins.sort_by_key(|pin| !name(pin).starts_with("connect"));
    for pin in pins {
        if pin.is_dir() || !Pins::is_ours(&name(&pin)) {
            removed.foreign.push(pin);
            continue;
        }
        // Not every pin is a link. What cannot be detached ends with its pin, a little later.
        drop(bpf::detach(&pin));
        remove_pin(&pin, removed)?;
    }
    remove_dir(folder)
}

fn remove_pin(pin: &Path, removed: &mut Removed) -> Result<()> {
    fs::remove_file(pin).with_context(|| format!("remove \"{}\"", pin.display()))?;
    removed.pins = removed.pins.saturating_add(1);
    Ok(())
}

/// Removes a folder unless something foreign is in it.
pub(super) fn remove_dir(folder: &Path) -> Result<()> {
    if children(folder)?.is_empty() {
        fs::remove_dir(folder).with_context(|| format!("remove \"{}\"", folder.display()))?;
    }
    Ok(())
}

/// What is in a folder, in order.
pub(super) fn children(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("list \"{}\"", folder.display()))?;
    let mut children: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    children.sort_unstable();
    Ok(children)
}

/// The last part of a path.
pub(super) fn name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
