//! Removing everything that is ours, whichever version made it and however it ended.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::{
    bpf::{Maps, Pins},
    sys::dir_lock::DirLock,
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

/// Detaches every pod and removes the owner folder. Connections that are open stay open.
pub fn uninstall(owner: &Path) -> Result<Removed> {
    let mut removed = Removed::default();
    if !owner.exists() {
        return Ok(removed);
    }
    let _lock = DirLock::exclusive(owner)?;
    deactivate(&Pins::new(owner))?;
    sweep(owner, &mut removed)?;
    Ok(removed)
}

/// Switches every pod off, so that all hooks of one stop redirecting at once. Where the pins are
/// not this version's, their links just go.
fn deactivate(pins: &Pins) -> Result<()> {
    let Ok(mut maps) = Maps::open(pins) else { return Ok(()) };
    for pod in children(&pins.pods())? {
        if let Ok(id) = name(&pod).parse() {
            maps.clear_row(id)?;
        }
    }
    Ok(())
}

/// Removes the known layout of any version; see [`Pins`].
pub(super) fn sweep(owner: &Path, removed: &mut Removed) -> Result<()> {
    for version in children(owner)? {
        let own = name(&version);
        let number = own.strip_prefix('v').map(|rest| rest.trim_end_matches(Pins::STAGING));
        if number.is_none_or(|number| number.parse::<u32>().is_err()) {
            removed.foreign.push(version);
            continue;
        }
        // Links first: a program goes with its last link and pin.
        for part in ["pods", "programs", "maps"] {
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
        removed.foreign.extend(children(&version)?);
        remove_dir(&version)?;
    }
    remove_dir(owner)
}

/// Removes the pins in a folder, connect hooks first, and the folder.
fn empty(folder: &Path, removed: &mut Removed) -> Result<()> {
    let mut pins = children(folder)?;
    pins.sort_by_key(|pin| !name(pin).starts_with("connect"));
    for pin in pins {
        if pin.is_dir() {
            removed.foreign.push(pin);
            continue;
        }
        fs::remove_file(&pin).with_context(|| format!("remove \"{}\"", pin.display()))?;
        removed.pins = removed.pins.saturating_add(1);
    }
    remove_dir(folder)
}

/// Removes a folder unless something foreign is in it.
fn remove_dir(folder: &Path) -> Result<()> {
    if children(folder)?.is_empty() {
        fs::remove_dir(folder).with_context(|| format!("remove \"{}\"", folder.display()))?;
    }
    Ok(())
}

fn children(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("list \"{}\"", folder.display()))?;
    let mut children: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    children.sort_unstable();
    Ok(children)
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
