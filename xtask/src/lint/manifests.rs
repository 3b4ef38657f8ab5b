//! Every crate takes the workspace's lints: a strict table that a crate forgets to inherit guards nothing.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::workspace;

/// Fails with the names of the crates that do not inherit.
pub(crate) fn check() -> Result<()> {
    let root = workspace::root();
    let mut deaf = Vec::new();
    for manifest in members(&root)? {
        let text = fs::read_to_string(&manifest)
            .with_context(|| format!("read {}", manifest.display()))?;
        if !inherits_lints(&text) {
            let shown = manifest.strip_prefix(&root).unwrap_or(&manifest);
            deaf.push(shown.display().to_string());
        }
    }
    if !deaf.is_empty() {
        bail!(
            "check manifests: add `[lints]` with `workspace = true` to {}",
            deaf.join(", ")
        );
    }
    Ok(())
}

/// The manifests of all crates. Each crate is a folder directly below the root.
fn members(root: &Path) -> Result<Vec<PathBuf>> {
    let mut manifests = Vec::new();
    for entry in fs::read_dir(root).with_context(|| format!("list {}", root.display()))? {
        let manifest = entry
            .with_context(|| format!("list {}", root.display()))?
            .path()
            .join("Cargo.toml");
        if manifest.is_file() {
            manifests.push(manifest);
        }
    }
    manifests.sort();
    Ok(manifests)
}

/// Reads the one table it looks for, in the one form cargo documents; anything fancier should not pass here.
fn inherits_lints(manifest: &str) -> bool {
    let mut lines = manifest.lines().map(str::trim);
    lines.any(|line| line == "[lints]")
        && lines
            .take_while(|line| !line.starts_with('['))
            .any(|line| line.replace(' ', "") == "workspace=true")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inheriting_is_told_from_not_inheriting() {
        assert!(inherits_lints(
            "[package]\nname = \"x\"\n\n[lints]\nworkspace = true\n"
        ));
        assert!(!inherits_lints("[package]\nname = \"x\"\n"));
        assert!(!inherits_lints("[lints]\n[package]\nworkspace = true\n"));
        assert!(!inherits_lints("[lints]\nworkspace = false\n"));
    }

    #[test]
    fn this_crate_is_found() {
        let manifests = members(&workspace::root()).unwrap();
        assert!(
            manifests
                .iter()
                .any(|manifest| manifest.ends_with("xtask/Cargo.toml"))
        );
    }
}
