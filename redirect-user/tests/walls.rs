//! Walls inside the workspace that a compiler does not check: words that only some files may
//! contain, and crates that stand alone.
//!
//! An exception that is no longer needed fails as well.

#![expect(
    clippy::expect_used,
    clippy::string_slice,
    reason = "a panic is how a test fails, and the slices are at matches that were just found"
)]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A word of the code, and the files or folders that may contain it.
struct Wall {
    words: &'static [&'static str],
    allowed: &'static [&'static str],
    why: &'static str,
}

const WALLS: &[Wall] = &[
    Wall {
        words: &["aya::", "use aya;", "use aya as"],
        allowed: &[
            "redirect-user/src/bpf/",
            "redirect-common/src/pod.rs",
            // Fills a map that only programs write.
            "redirect-user/tests/kernel/stand_ins.rs",
        ],
        why: "only one module knows how programs and maps are reached",
    },
    Wall {
        words: &["libc::"],
        allowed: &[
            "redirect-user/src/sys/",
            // Names of errors, and socket options that no crate wraps.
            "redirect-testkit/src/socket_lb.rs",
            "redirect-testkit/src/dial/",
            "redirect-testkit/src/errno.rs",
            "redirect-testkit/src/flood.rs",
            // Calls setfsuid, which std and rustix leave out.
            "redirect-testkit/src/socket_identity.rs",
            "redirect-testkit/src/open_connections.rs",
            "redirect-testkit/src/http.rs",
            "redirect-testkit/src/kill.rs",
            "redirect-testkit/src/serve/",
            "redirect-testkit/src/sockopt.rs",
            "redirect-testkit/src/uring.rs",
        ],
        why: "raw system calls have safe names in one place",
    },
    Wall {
        words: &["unsafe"],
        allowed: &[
            "redirect-user/src/sys/",
            // Sets a variable before there is a second thread.
            "redirect-user/build.rs",
            // `Pod` is an unsafe trait.
            "redirect-common/src/pod.rs",
            "redirect-testkit/src/socket_lb.rs",
            "redirect-testkit/src/socket_identity.rs",
            "redirect-testkit/src/kill.rs",
            "redirect-testkit/src/sockopt.rs",
            "redirect-testkit/src/uring.rs",
            // Raw contexts, maps and kernel reads, and the licence's section.
            "redirect-ebpf/src/ctx/",
            "redirect-ebpf/src/kernel.rs",
            "redirect-ebpf/src/listener.rs",
            "redirect-ebpf/src/maps.rs",
            "redirect-ebpf/src/owner.rs",
            "redirect-ebpf/src/storage.rs",
            "redirect-ebpf/src/main.rs",
        ],
        why: "code that the compiler cannot check is reviewed in one place",
    },
];

#[test]
fn walls_stand() {
    let sources = sources();
    assert!(sources.len() > 50, "only {} files found", sources.len());
    let mut problems = Vec::new();
    for Wall {
        words,
        allowed,
        why,
    } in WALLS
    {
        let mut needed = vec![false; allowed.len()];
        for (path, text) in &sources {
            let found = text
                .lines()
                .zip(1..)
                .find(|(line, _)| words.iter().any(|word| names(line, word)));
            let Some((line, number)) = found else {
                continue;
            };
            let exceptions: Vec<_> = allowed
                .iter()
                .map(|prefix| path.starts_with(prefix))
                .collect();
            if !exceptions.contains(&true) {
                problems.push(format!("{path}:{number}: {}: {why}", line.trim()));
            }
            for (needed, is_exception) in needed.iter_mut().zip(exceptions) {
                *needed |= is_exception;
            }
        }
        let expired = allowed.iter().zip(needed).filter(|(_, needed)| !needed);
        problems.extend(expired.map(|(prefix, _)| {
            format!("{prefix} no longer needs {words:?}: remove the exception")
        }));
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

/// Crates that depend on no other crate of the workspace, and the reason.
const ALONE: [(&str, &str); 2] = [
    ("xtask", "it builds our crates"),
    (
        "redirect-cni",
        "it forwards requests without deciding, and is started for every pod",
    ),
];

#[test]
fn standalone_crates_depend_on_no_crate_of_the_workspace() {
    for (name, why) in ALONE {
        let manifest = workspace().join(name).join("Cargo.toml");
        let manifest = fs::read_to_string(manifest).expect("a manifest");
        let (_, dependencies) = manifest.split_once("[dependencies]").expect("dependencies");
        let ours: Vec<_> = dependencies
            .lines()
            .filter(|line| line.starts_with("redirect-") || line.contains("path ="))
            .collect();
        assert!(ours.is_empty(), "{name}: {ours:?}: {why}");
    }
}

/// Files that install something with `cargo xtask setup`, and the files of tests that look for it.
/// Tests skip themselves if the two name different versions.
const INSTALLED: [(&str, &str); 2] = [
    (
        "xtask/src/setup/envoy.rs",
        "redirect-testkit/src/envoy/sidecar.rs",
    ),
    ("xtask/src/setup/helm.rs", "redirect-agent/tests/deploy.rs"),
];

#[test]
fn tests_look_for_the_versions_that_setup_installs() {
    let read = |path: &str| fs::read_to_string(workspace().join(path)).expect(path);
    for (setup, user) in INSTALLED {
        let text = read(setup);
        let quoted = |key: &str| text.split_once(key)?.1.split('"').next();
        let name = quoted("name: \"").expect("a name").to_lowercase();
        let version = quoted("version: \"").expect("a version");
        let folder = format!("/{name}-{version}/");
        assert!(read(user).contains(&folder), "{user} lacks {folder}");
    }
}

/// Words of the agent, the files of the agent that may and must contain them, and the reason.
const AGENT: &[(&str, &str, &str)] = &[
    (
        "Writer",
        "redirect-agent/src/reconcile/executor.rs",
        "one file changes what is attached",
    ),
    (
        "Reader",
        "redirect-agent/src/metrics/kernel.rs redirect-agent/src/reconcile/attachment_cache.rs",
        "planning reads the state in one place",
    ),
];

/// Modules that read from the system.
const SYSTEM_MODULES: [&str; 5] = ["fs", "env", "time", "node", "netns"];

#[test]
fn the_agent_decides_and_acts_in_different_files() {
    let sources = sources();
    let agent = sources
        .iter()
        .filter(|(path, _)| path.starts_with("redirect-agent/src/"));
    let mut problems = Vec::new();
    for (path, text) in agent {
        let is_named = |word: &str| text.lines().any(|line| names(line, word));
        for (word, allowed, why) in AGENT {
            let is_allowed = allowed.split(' ').any(|allowed| allowed == path);
            if is_named(word) != is_allowed {
                problems.push(format!("{path}: {word}: {why}"));
            }
        }
        if path.starts_with("redirect-agent/src/plan/") {
            for word in SYSTEM_MODULES.map(|module| format!("{module}::")) {
                if is_named(&word) {
                    problems.push(format!(
                        "{path}: {word}: a plan reads nothing from the system"
                    ));
                }
            }
        }
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn words_are_matched_as_a_whole_and_outside_of_comments() {
    assert!(names("    let info = aya::maps::MapInfo;", "aya::"));
    assert!(names("unsafe { call() }", "unsafe"));
    for line in [
        "use xaya::y;",
        "#![expect(unsafe_code)]",
        "// unsafe",
        "x // libc::open",
    ] {
        assert!(
            !["aya::", "unsafe", "libc::"]
                .iter()
                .any(|word| names(line, word)),
            "{line}"
        );
    }
}

/// Whether the code of a line contains the word, and not only as a part of another word.
fn names(line: &str, word: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        let before = &code[..at];
        let after = &code[at + word.len()..];
        // After an odd number of quotes the word is in a string.
        !before.ends_with(is_part)
            && (word.ends_with(':') || !after.starts_with(is_part))
            && before.matches('"').count().is_multiple_of(2)
    })
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("a workspace")
        .to_owned()
}

/// Every source file of the workspace's crates, by its path in the workspace.
fn sources() -> Vec<(String, String)> {
    let workspace = workspace();
    let manifest =
        fs::read_to_string(workspace.join("Cargo.toml")).expect("the workspace's manifest");
    let members = manifest
        .lines()
        .find_map(|line| line.strip_prefix("members = "))
        .expect("members");
    let mut found = Vec::new();
    for member in members.split('"').skip(1).step_by(2) {
        walk(&workspace.join(member), &mut found);
    }
    found
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).expect("a source");
            let relative = path.strip_prefix(&workspace).expect("below the workspace");
            (relative.display().to_string(), text)
        })
        .collect()
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            if entry.file_name() != "target" {
                walk(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}
