//! Network configurations with a list of plugins, as container runtimes read them.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use redirect_cni::config::VERSIONS;
use serde_json::Value;

use super::change::{Change, replace_file};

/// Name of the plugin and of its program.
pub(super) const PLUGIN: &str = "redirect-cni";
/// Extensions of the files that libcni reads (`ConfFiles`); only the first is of lists of plugins.
const EXTENSIONS: [&str; 3] = ["conflist", "conf", "json"];

/// A network configuration with a list of plugins.
pub(super) struct Conflist {
    path: PathBuf,
    whole: Value,
    pub(super) plugins: Vec<Value>,
}

impl Conflist {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let list = Self::find(path)?;
        list.with_context(|| {
            let shown = path.display();
            format!("read network configuration \"{shown}\": it has no \"plugins\"")
        })
    }

    /// Reads a list; `None` if the file has no list of plugins.
    pub(super) fn find(path: &Path) -> Result<Option<Self>> {
        let reading = || format!("read network configuration \"{}\"", path.display());
        // A symbolic link stays one.
        let path = path.canonicalize().with_context(reading)?;
        let text = fs::read_to_string(&path).with_context(reading)?;
        let whole: Value = serde_json::from_str(&text).with_context(reading)?;
        let plugins = whole.get("plugins").and_then(Value::as_array).cloned();
        Ok(plugins.map(|plugins| Self {
            path,
            whole,
            plugins,
        }))
    }

    /// Refuses a list whose version the plugin would refuse for every pod.
    pub(super) fn check_version(&self) -> Result<()> {
        let version = self.whole.get("cniVersion").and_then(Value::as_str);
        if version.is_some_and(|version| VERSIONS.contains(&version)) {
            return Ok(());
        }
        bail!(
            "use network configuration \"{}\": its \"cniVersion\" is {}, and {PLUGIN} knows {}",
            self.path.display(),
            version.map_or_else(|| "missing".to_owned(), |version| format!("\"{version}\"")),
            VERSIONS.join(", ")
        );
    }

    /// Writes the list if its plugins changed.
    pub(super) fn write_if_changed(mut self, before: &[Value]) -> Result<Option<Change>> {
        if self.plugins == before {
            return Ok(None);
        }
        if let Some(whole) = self.whole.as_object_mut() {
            whole.insert("plugins".to_owned(), Value::Array(self.plugins));
        }
        let mut text = serde_json::to_string_pretty(&self.whole).context("write JSON")?;
        text.push('\n');
        let mode = fs::metadata(&self.path).map(|file| file.permissions().mode() & 0o777);
        replace_file(&self.path, text.as_bytes(), mode.unwrap_or(0o600))?;
        Ok(Some(Change {
            verb: "wrote",
            path: self.path,
        }))
    }
}

/// The configuration that runtimes use: the first by name, which has to be a list.
pub(super) fn first(dir: &Path) -> Result<PathBuf> {
    let shown = dir.display();
    let all = configurations(dir)?;
    let Some(first) = all.into_iter().next() else {
        bail!(
            "find a network configuration in \"{shown}\": there is none; install the cluster's network first"
        );
    };
    if first.extension().is_none_or(|kind| kind != EXTENSIONS[0]) {
        bail!(
            "use network configuration \"{}\": it is for one plugin only; make it a list, *.conflist with \"plugins\"",
            first.display()
        );
    }
    Ok(first)
}

/// All lists, without dangling links.
pub(super) fn conflists(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut all = configurations(dir)?;
    all.retain(|path| {
        path.extension().is_some_and(|kind| kind == EXTENSIONS[0])
            && path.try_exists().unwrap_or(true)
    });
    Ok(all)
}

/// All configurations, sorted by name as runtimes sort them.
fn configurations(dir: &Path) -> Result<Vec<PathBuf>> {
    let reading = || format!("read directory \"{}\"", dir.display());
    let entries = fs::read_dir(dir).with_context(reading)?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.with_context(reading)?.path();
        let kind = path.extension().and_then(|kind| kind.to_str());
        if kind.is_some_and(|kind| EXTENSIONS.contains(&kind)) && !path.is_dir() {
            found.push(path);
        }
    }
    found.sort_unstable();
    Ok(found)
}
