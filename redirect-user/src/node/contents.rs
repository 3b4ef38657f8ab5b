//! What is in the folder of a layout's version: what is ours, in the order in which it goes, and what is not.
//!
//! In this layout's folder every name is known, and what has another one is not ours. Another layout may have
//! hooks and maps that this one does not know: there, what is ours is known by its place.
//!
//! Used by `uninstall` and `other_layouts`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::bpf::Pins;

/// The folders of a version.
const PARTS: [&str; 4] = ["pods", "programs", "programs-new", "maps"];

/// What is in a version's folder.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// Cgroups with pins that are ours.
    pub(super) cgroups: usize,
    /// Pins that are ours: links first, of each cgroup those of connect hooks before the others; a program goes
    /// with its last link and pin.
    pub(super) pins: Vec<PathBuf>,
    /// The folders they are in, inner ones first, and last the version's own.
    pub(super) folders: Vec<PathBuf>,
    /// What is not ours.
    pub(super) foreign: Vec<PathBuf>,
}

impl Contents {
    pub(super) fn of(version: &Path) -> Result<Self> {
        let mut contents = Self::default();
        let is_known = Pins::is_this_layout(&name(version));
        for part in PARTS.map(|part| version.join(part)) {
            if !part.is_dir() {
                continue;
            }
            if name(&part) == "pods" {
                for pod in children(&part)? {
                    if name(&pod).parse::<u64>().is_ok() {
                        let before = contents.pins.len();
                        contents.add(&pod, is_known)?;
                        if contents.pins.len() > before {
                            contents.cgroups = contents.cgroups.saturating_add(1);
                        }
                    } else {
                        contents.foreign.push(pod);
                    }
                }
                contents.folders.push(part);
            } else {
                contents.add(&part, is_known)?;
            }
        }
        let is_part = |path: &Path| path.is_dir() && PARTS.contains(&name(path).as_str());
        let others = children(version)?.into_iter().filter(|path| !is_part(path));
        contents.foreign.extend(others);
        contents.folders.push(version.to_owned());
        Ok(contents)
    }

    /// Adds a folder of pins.
    fn add(&mut self, folder: &Path, is_known: bool) -> Result<()> {
        let mut pins = children(folder)?;
        pins.sort_by_key(|pin| !name(pin).starts_with("connect"));
        for pin in pins {
            let is_foreign = pin.is_dir() || (is_known && !Pins::is_ours(&name(&pin)));
            let list = if is_foreign {
                &mut self.foreign
            } else {
                &mut self.pins
            };
            list.push(pin);
        }
        self.folders.push(folder.to_owned());
        Ok(())
    }

    /// Whether there is something to remove: a pin, or folders that are in nobody's way.
    pub(super) const fn has_ours(&self) -> bool {
        !self.pins.is_empty() || self.foreign.is_empty()
    }
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

/// Removes a folder unless something foreign is in it.
pub(super) fn remove_dir(folder: &Path) -> Result<()> {
    if children(folder)?.is_empty() {
        fs::remove_dir(folder).with_context(|| format!("remove \"{}\"", folder.display()))?;
    }
    Ok(())
}
