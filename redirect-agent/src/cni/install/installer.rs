//! Installing the plugin in a node's network configuration, and removing it.
//!
//! Every file is replaced atomically, under a name that container runtimes do not read until then.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{
    change::{Change, replace_file},
    conflist::{Conflist, PLUGIN, conflists, first},
};

/// Directories of the container runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CniDirs {
    /// Directory of network configurations.
    pub conf: PathBuf,
    /// Directory of plugins.
    pub bin: PathBuf,
}

/// The plugin's entry in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Socket of the agent.
    pub socket: PathBuf,
    /// Time limit for the agent to attach a pod, in seconds.
    pub timeout: u64,
    /// Whether pods start without redirection if the agent cannot redirect them.
    pub fail_open: bool,
    /// Namespaces whose pods the agent is not asked about.
    pub exclude_namespaces: Vec<String>,
}

/// Appends the plugin to the list that runtimes use. The program is written before a list names it. Nothing
/// is written if nothing changes.
pub fn install(dirs: &CniDirs, plugin: &Path, entry: &Entry) -> Result<Vec<Change>> {
    let path = first(&dirs.conf)?;
    let mut list = Conflist::read(&path)?;
    list.check_version()?;
    let mut changes = Vec::new();
    let program =
        fs::read(plugin).with_context(|| format!("read plugin \"{}\"", plugin.display()))?;
    let program_path = dirs.bin.join(PLUGIN);
    if fs::read(&program_path).ok().as_ref() != Some(&program) {
        replace_file(&program_path, &program, 0o755)?;
        changes.push(Change {
            verb: "wrote",
            path: program_path,
        });
    }
    let before = list.plugins.clone();
    list.plugins.retain(is_foreign);
    list.plugins.push(entry.to_json());
    changes.extend(list.write_if_changed(&before)?);
    Ok(changes)
}

/// Removes the plugin from every list, and then its program. The program stays while a list is unreadable: a
/// list that names a missing program fails every start of a pod. Nothing is written if nothing changes.
pub fn remove(dirs: &CniDirs) -> Result<Vec<Change>> {
    let mut changes = Vec::new();
    let mut unread = None;
    for path in conflists(&dirs.conf)? {
        match Conflist::find(&path) {
            Ok(Some(mut list)) => {
                let before = list.plugins.clone();
                list.plugins.retain(is_foreign);
                changes.extend(list.write_if_changed(&before)?);
            }
            Ok(None) => {}
            Err(error) => unread = Some(error),
        }
    }
    let path = dirs.bin.join(PLUGIN);
    let removing = || format!("remove \"{}\"", path.display());
    if let Some(error) = unread {
        let remedy =
            "an unreadable list may still name it; repair or move that list, and try again";
        return Err(error.context(format!("{}: {remedy}", removing())));
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

fn is_foreign(plugin: &Value) -> bool {
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
