//! The contents of a version folder: the pins of the redirector in the order of their removal, and
//! foreign files.
//!
//! In the folder of this layout every name is known, and entries with other names are foreign.
//! Another layout can have hooks and maps that this one does not know, so there the redirector's
//! pins are recognized by their place.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::bpf::Pins;

/// The subfolders of a version folder.
const PARTS: [&str; 4] = ["pods", "programs", "programs-new", "maps"];

/// The contents of a version folder.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// The number of cgroups with pins of the redirector.
    pub(super) cgroups: usize,
    /// The pins of the redirector. Links come first, and of each cgroup the links of connect hooks
    /// before the others. A program is freed with its last link and pin.
    pub(super) pins: Vec<PathBuf>,
    /// The folders that contain the pins, inner ones first, and the version folder last.
    pub(super) folders: Vec<PathBuf>,
    /// Files and folders that the redirector has not created.
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

    /// Adds a folder of pins and its contents.
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

    /// Whether there is anything to remove: a pin, or folders without foreign files.
    pub(super) const fn has_ours(&self) -> bool {
        !self.pins.is_empty() || self.foreign.is_empty()
    }
}

/// The entries of a folder, sorted.
pub(super) fn children(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("list \"{}\"", folder.display()))?;
    let mut children: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    children.sort_unstable();
    Ok(children)
}

/// The last component of a path.
pub(super) fn name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// Removes a folder unless it contains something.
pub(super) fn remove_dir(folder: &Path) -> Result<()> {
    if children(folder)?.is_empty() {
        fs::remove_dir(folder).with_context(|| format!("remove \"{}\"", folder.display()))?;
    }
    Ok(())
}
