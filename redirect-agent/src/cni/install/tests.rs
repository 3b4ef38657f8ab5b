//! Installing into directories of a test.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::Result;
use serde_json::{Value, json};

use super::{
    change::Change,
    conflist::PLUGIN,
    installer::{CniDirs, Entry, install, remove},
};

static SERIAL: AtomicU32 = AtomicU32::new(0);

/// Directories of a node, and a program to install.
struct Node {
    root: PathBuf,
    dirs: CniDirs,
}

impl Node {
    fn new() -> Self {
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let name = format!("redirect-cni-install-{}-{serial}", std::process::id());
        let root = std::env::temp_dir().join(name);
        let dirs = CniDirs {
            conf: root.join("net.d"),
            bin: root.join("bin"),
        };
        for dir in [&dirs.conf, &dirs.bin] {
            fs::create_dir_all(dir).unwrap();
        }
        fs::write(root.join("plugin"), "program").unwrap();
        Self { root, dirs }
    }

    fn put(&self, name: &str, text: &str) {
        fs::write(self.dirs.conf.join(name), text).unwrap();
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.dirs.conf.join(name)).unwrap()
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.text(name)).unwrap()
    }

    fn install(&self, socket: &str) -> Result<Vec<Change>> {
        let entry = Entry {
            socket: socket.into(),
            timeout: 40,
            fail_open: false,
            exclude_namespaces: vec!["kube-system".to_owned()],
        };
        install(&self.dirs, &self.root.join("plugin"), &entry)
    }

    /// Number of all files, so that none is left behind.
    fn files(&self) -> usize {
        let dirs = [&self.dirs.conf, &self.dirs.bin];
        dirs.map(|dir| fs::read_dir(dir).unwrap().count())
            .iter()
            .sum()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.root).unwrap_or_default();
    }
}

const BRIDGE: &str = r#"{"cniVersion": "1.0.0", "name": "pods", "x": {"y": [1, 2.5, null, "\u00e4"]},
    "plugins": [{"type": "bridge", "mtu": 1450}, {"type": "portmap", "capabilities": {"portMappings": true}}]}"#;

#[test]
fn install_appends_the_entry_to_the_first_list_and_remove_restores_it() {
    let node = Node::new();
    node.put("10-pods.conflist", BRIDGE);
    node.put("20-other.conflist", BRIDGE);
    node.put("05-not-read.conflist.bak", "{");
    fs::set_permissions(
        node.dirs.conf.join("10-pods.conflist"),
        Permissions::from_mode(0o640),
    )
    .unwrap();
    assert_eq!(node.install("/s").unwrap().len(), 2);
    let mut expected: Value = serde_json::from_str(BRIDGE).unwrap();
    let before = expected.clone();
    expected["plugins"].as_array_mut().unwrap().push(json!({
        "type": "redirect-cni", "socket": "/s", "timeoutSeconds": 40, "failOpen": false,
        "excludeNamespaces": ["kube-system"],
    }));
    assert_eq!(node.json("10-pods.conflist"), expected);
    assert_eq!(node.text("20-other.conflist"), BRIDGE);
    let place = node.dirs.bin.join("redirect-cni");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(fs::read_to_string(&place).unwrap(), "program");
    assert_eq!(mode(&place), 0o755);
    let list = node.dirs.conf.join("10-pods.conflist");
    assert_eq!(mode(&list), 0o640);
    assert_eq!(node.install("/s").unwrap(), []);
    // The entry has changed.
    assert_eq!(node.install("/t").unwrap().len(), 1);
    let plugins = node.json("10-pods.conflist")["plugins"].clone();
    assert_eq!(plugins.as_array().unwrap().len(), 3);
    assert_eq!(plugins[2]["socket"], "/t");
    assert_eq!(node.files(), 4);
    assert_eq!(remove(&node.dirs).unwrap().len(), 2);
    assert_eq!(node.json("10-pods.conflist"), before);
    assert_eq!(node.files(), 3);
    assert_eq!(remove(&node.dirs).unwrap(), []);
}

#[test]
fn install_moves_the_entry_behind_later_plugins() {
    let node = Node::new();
    node.put("a.conflist", BRIDGE);
    node.install("/s").unwrap();
    let mut json = node.json("a.conflist");
    let plugins = json["plugins"].as_array_mut().unwrap();
    plugins.push(json!({"type": "bandwidth"}));
    node.put("a.conflist", &json.to_string());
    node.install("/s").unwrap();
    let json = node.json("a.conflist");
    let plugins = json["plugins"].as_array().unwrap();
    let kinds: Vec<_> = plugins
        .iter()
        .map(|plugin| plugin["type"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["bridge", "portmap", "bandwidth", "redirect-cni"]);
}

#[test]
fn an_unusable_configuration_is_named_and_left_alone() {
    let old = BRIDGE.replace("1.0.0", "0.2.0");
    for (name, text, words) in [
        ("", "", "there is none; install"),
        ("a.conf", "{}", "it is for one plugin"),
        ("a.json", "{}", "it is for one plugin"),
        ("a.conflist", "{", "EOF"),
        ("a.conflist", "{}", "no \"plugins\""),
        (
            "a.conflist",
            "{\"plugins\": []}",
            "\"cniVersion\" is missing",
        ),
        (
            "a.conflist",
            &old,
            "\"cniVersion\" is \"0.2.0\", and redirect-cni knows 0.3.1",
        ),
    ] {
        let node = Node::new();
        if !name.is_empty() {
            node.put(name, text);
            node.put("b.conflist", BRIDGE);
        }
        let error = format!("{:#}", node.install("/s").unwrap_err());
        assert!(error.contains(words), "{name} {text}: {error}");
        assert!(!node.dirs.bin.join("redirect-cni").exists());
        if !name.is_empty() {
            assert_eq!(node.text(name), text);
            assert_eq!(node.text("b.conflist"), BRIDGE);
        }
    }
}

#[test]
fn remove_ignores_files_without_a_plugin_list() {
    let node = Node::new();
    node.put("10-pods.conflist", BRIDGE);
    node.install("/s").unwrap();
    for (name, text) in [("a.conf", "{"), ("b.conflist", "{}"), ("c.conflist", "[]")] {
        node.put(name, text);
    }
    symlink("nowhere", node.dirs.conf.join("d.conflist")).unwrap();
    assert_eq!(remove(&node.dirs).unwrap().len(), 2);
    assert!(!node.text("10-pods.conflist").contains(PLUGIN));
    assert_eq!(remove(&node.dirs).unwrap(), []);
}

/// A list that names a missing program fails every start of a pod.
#[test]
fn remove_keeps_the_program_while_a_list_is_unreadable() {
    for name in ["05-half.conflist", "15-half.conflist"] {
        let node = Node::new();
        node.put("10-pods.conflist", BRIDGE);
        node.install("/s").unwrap();
        let installed = node.text("10-pods.conflist");
        let (half, _) = installed.split_at(installed.len() / 2);
        node.put(name, half);
        let error = format!("{:#}", remove(&node.dirs).unwrap_err());
        let shown = node.dirs.conf.join(name);
        for words in [
            shown.to_str().unwrap(),
            "EOF",
            "redirect-cni\"",
            "repair or move that list",
        ] {
            assert!(error.contains(words), "{error}");
        }
        assert!(!node.text("10-pods.conflist").contains(PLUGIN));
        assert!(node.dirs.bin.join(PLUGIN).exists());
        fs::remove_file(shown).unwrap();
        assert_eq!(remove(&node.dirs).unwrap().len(), 1);
    }
}
