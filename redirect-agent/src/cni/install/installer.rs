//! Putting the plugin into a node's network configuration, and taking it out.
//!
//! Every file appears whole or not at all, under a name that container runtimes do not read until
//! then.

use std::{
    fs::{self, File, Permissions},
    io::{ErrorKind, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use redirect_cni::config::VERSIONS;
use serde_json::{Value, json};

/// The plugin's name, and its program's.
pub(super) const PLUGIN: &str = "redirect-cni";
/// The names that libcni reads (`ConfFiles`); of these only the first is a list of plugins.
const KINDS: [&str; 3] = ["conflist", "conf", "json"];

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

/// A file that is another one now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What was done to it.
    pub verb: &'static str,
    /// The file.
    pub path: PathBuf,
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

/// A network configuration with a list of plugins.
struct List {
    path: PathBuf,
    whole: Value,
    plugins: Vec<Value>,
}

impl List {
    fn read(path: &Path) -> Result<Self> {
        let list = Self::find(path)?;
        list.with_context(|| {
            let shown = path.display();
            format!("read network configuration \"{shown}\": it has no \"plugins\"")
        })
    }

    /// None if the file is no list of plugins.
    fn find(path: &Path) -> Result<Option<Self>> {
        let reading = || format!("read network configuration \"{}\"", path.display());
        // A link stays one.
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

    /// Refuses a list in a version that the plugin would refuse for every pod.
    fn check_version(&self) -> Result<()> {
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

    /// Writes it if it has other plugins than before.
    fn write_if_not(mut self, before: &[Value]) -> Result<Option<Change>> {
        if self.plugins == before {
            return Ok(None);
        }
        if let Some(whole) = self.whole.as_object_mut() {
            whole.insert("plugins".to_owned(), Value::Array(self.plugins));
        }
        let mut text = serde_json::to_string_pretty(&self.whole).context("write JSON")?;
        text.push('\n');
        let mode = fs::metadata(&self.path).map(|file| file.permissions().mode() & 0o777);
        replace(&self.path, text.as_bytes(), mode.unwrap_or(0o600))?;
        Ok(Some(Change {
            verb: "wrote",
            path: self.path,
        }))
    }
}

/// The configuration that runtimes take: the first by name, which has to be a list.
fn first(folder: &Path) -> Result<PathBuf> {
    let shown = folder.display();
    let all = configurations(folder)?;
    let Some(first) = all.into_iter().next() else {
        bail!(
            "find a network configuration in \"{shown}\": there is none; install the cluster's network first"
        );
    };
    if first.extension().is_none_or(|kind| kind != KINDS[0]) {
        bail!(
            "use network configuration \"{}\": it is for one plugin and cannot be added to; make it a list, *.conflist with \"plugins\"",
            first.display()
        );
    }
    Ok(first)
}

/// The lists, but for links to nowhere.
fn lists(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut all = configurations(folder)?;
    all.retain(|path| {
        path.extension().is_some_and(|kind| kind == KINDS[0]) && path.try_exists().unwrap_or(true)
    });
    Ok(all)
}

/// The configurations by name, as runtimes sort them.
fn configurations(folder: &Path) -> Result<Vec<PathBuf>> {
    let reading = || format!("read folder \"{}\"", folder.display());
    let entries = fs::read_dir(folder).with_context(reading)?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.with_context(reading)?.path();
        let kind = path.extension().and_then(|kind| kind.to_str());
        if kind.is_some_and(|kind| KINDS.contains(&kind)) && !path.is_dir() {
            found.push(path);
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Makes a file another one, all at once.
fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let writing = || format!("write \"{}\"", path.display());
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        bail!("{}: it is not the path of a file", writing());
    };
    // Its name ends like none that a runtime reads.
    let mut draft = name.to_owned();
    draft.push(".redirect-agent");
    let draft = folder.join(draft);
    let write = || {
        let mut file = File::create(&draft)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        File::open(folder)?.sync_all()
    };
    let written = write();
    if written.is_err() {
        fs::remove_file(&draft).unwrap_or_default();
    }
    written.with_context(writing)
}
