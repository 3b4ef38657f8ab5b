//! A check that every package inherits the lints of the workspace.

use std::fs;

use anyhow::{Context as _, Result, bail};

use crate::workspace;

/// Fails with the manifests of the packages that do not inherit.
pub(crate) fn check() -> Result<()> {
    let mut without = Vec::new();
    for package in workspace::packages()? {
        let manifest = package.join("Cargo.toml");
        let text = fs::read_to_string(&manifest)
            .with_context(|| format!("read {}", manifest.display()))?;
        if !inherits_lints(&text) {
            without.push(manifest.display().to_string());
        }
    }
    if !without.is_empty() {
        bail!(
            "check manifests: add `[lints]` with `workspace = true` to {}",
            without.join(", ")
        );
    }
    Ok(())
}

/// Whether a manifest has the table, in the one form that cargo documents. Other forms fail.
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
    fn only_a_table_in_the_documented_form_inherits() {
        assert!(inherits_lints(
            "[package]\nname = \"x\"\n\n[lints]\nworkspace = true\n"
        ));
        assert!(!inherits_lints("[package]\nname = \"x\"\n"));
        assert!(!inherits_lints("[lints]\n[package]\nworkspace = true\n"));
        assert!(!inherits_lints("[lints]\nworkspace = false\n"));
    }
}
