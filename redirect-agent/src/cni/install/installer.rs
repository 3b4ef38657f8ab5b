//! Putting the plugin into a node's network configuration, and taking it out.
//!
//! Every file appears whole or not at all, under a name that container runtimes do not read until
//! then.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{
    change::{Change, replace},
    conflist::{List, PLUGIN, first, lists},
};

/// Where container runtimes look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// For network configurations.
    pub configurations: PathBuf,
    /// For plugins.
    pub plugins: PathBuf,
}

/// What the plugin is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where the agent listens.
    pub socket: PathBuf,
    /// How long the agent may take for a pod, in seconds.
    pub timeout: u64,
    /// Whether pods start without redirection if the agent cannot redirect them.
    pub fail_open: bool,
    /// Namespaces whose pods it is not asked about.
    pub exclude_namespaces: Vec<String>,
}

/// Puts the plugin at the end of the list that runtimes take. The plugin is there before it is named.
/// Without anything to change, nothing is written.
pub fn install(places: &Places, plugin: &Path, entry: &Entry) -> Result<Vec<Change>> {
    let path = first(&places.configurations)?;
    let mut list = List::read(&path)?;
    list.check_version()?;
    let mut changes = Vec::new();
    let program =
        fs::read(plugin).with_context(|| format!("read plugin \"{}\"", plugin.display()))?;
    let place = places.plugins.join(PLUGIN);
    if fs::read(&place).ok().as_ref() != Some(&program) {
        replace(&place, &program, 0o755)?;
        changes.push(Change {
            verb: "wrote",
            path: place,
        });
    }
    let before = list.plugins.clone();
    list.plugins.retain(is_not_ours);
    list.plugins.push(entry.to_json());
    changes.extend(list.write_if_not(&before)?);
    Ok(changes)
}

/// Takes the plugin out of every list, and then away: not as long as a list cannot be read, because a
/// program that is named and not there fails every start. Without anything to change, nothing is written.
pub fn remove(places: &Places) -> Result<Vec<Change>> {
    let mut changes = Vec::new();
    let mut unread = None;
    for path in lists(&places.configurations)? {
        match List::find(&path) {
            Ok(Some(mut list)) => {
                let before = list.plugins.clone();
                list.plugins.retain(is_not_ours);
                changes.extend(list.write_if_not(&before)?);
            }
            Ok(None) => {}
            Err(error) => unread = Some(error),
        }
    }
    let path = places.plugins.join(PLUGIN);
    let removing = || format!("remove \"{}\"", path.display());
    if let Some(error) = unread {
        let what_to_do = "this list may still name it; mend it or move it away, and try again";
        return Err(error.context(format!("{}: {what_to_do}", removing())));
    }
    match fs::remove_file(&path) {
        Ok(()) => changes.push(Change {
            verb: "removed",
            path,
        }),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(removing),
    }
    Ok(changes)
}

fn is_not_ours(plugin: &Value) -> bool {
    plugin.get("type").and_then(Value::as_str) != Some(PLUGIN)
}

impl Entry {
    fn to_json(&self) -> Value {
        json!({
            "type": PLUGIN,
            "socket": self.socket,
            "timeoutSeconds": self.timeout,
            "failOpen": self.fail_open,
            "excludeNamespaces": self.exclude_namespaces,
        })
    }
}
