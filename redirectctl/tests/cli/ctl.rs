//! Runs of `redirectctl`, with a state directory for each test.
#![expect(
    clippy::disallowed_methods,
    reason = "the program under test is run as an operator runs it"
)]

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use redirect_common::abi::ABI_VERSION;
use redirect_testkit::GuardedFolder;
use serde_json::Value;

/// The program under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_redirectctl");

const MOUNT: &str = "/sys/fs/bpf";
const PREFIX: &str = "redirect-test-";

/// The name of this version's folder in a state directory.
pub(crate) fn version() -> String {
    version_of(ABI_VERSION)
}

/// The name of another version's folder.
pub(crate) fn version_of(abi: u32) -> String {
    format!("v{abi}")
}

/// The arguments of a command line.
pub(crate) type Args<'a> = &'a [&'a str];

/// A state directory; dropping it uninstalls.
#[derive(Debug)]
pub(crate) struct Ctl {
    folder: PathBuf,
    // Last: the guard removes the files that uninstall rightly leaves, and everything if this process is killed.
    _guard: GuardedFolder,
}

impl Ctl {
    /// Names a state directory that does not exist yet; `name` is unique among the tests.
    pub(crate) fn new(name: &str) -> Self {
        let folder = Path::new(MOUNT).join(format!("{PREFIX}{}-{name}", std::process::id()));
        let guard = GuardedFolder::guard(&folder).unwrap();
        Self {
            folder,
            _guard: guard,
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The state directory as an argument.
    pub(crate) fn bpffs(&self) -> &str {
        self.folder.to_str().unwrap()
    }

    /// The whole command line, for a start in another way.
    pub(crate) fn argv<'a>(&'a self, args: &[&'a str]) -> Vec<&'a str> {
        [&[BINARY, "--bpffs", self.bpffs()], args].concat()
    }

    /// Runs a command line with an empty environment.
    pub(crate) fn run(&self, args: &[&str]) -> CommandOutput {
        run(&self.argv(args), &[], "")
    }

    /// Runs a command line with these variables.
    pub(crate) fn run_with(&self, args: &[&str], variables: &[(&str, &str)]) -> CommandOutput {
        run(&self.argv(args), variables, "")
    }

    /// Runs a command line with this standard input.
    pub(crate) fn run_with_input(&self, args: &[&str], input: &str) -> CommandOutput {
        run(&self.argv(args), &[], input)
    }

    /// Runs a command line that must succeed; returns its output.
    #[track_caller]
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        self.run(args).ok()
    }

    /// Runs a command line that must succeed; returns its JSON.
    #[track_caller]
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let text = self.ok(&[args, &["--output", "json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{args:?}: {error}: {text}"))
    }

    /// Every path in the state directory, sorted; empty if it does not exist.
    pub(crate) fn tree(&self) -> Vec<String> {
        let mut paths = Vec::new();
        walk(&self.folder, &mut paths);
        paths.sort_unstable();
        paths
    }
}

impl Drop for Ctl {
    fn drop(&mut self) {
        self.run(&["uninstall", "--yes"]);
    }
}

fn walk(folder: &Path, paths: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    paths.push(folder.display().to_string());
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            walk(&path, paths);
        } else {
            paths.push(path.display().to_string());
        }
    }
}

/// The output of a command line.
#[derive(Debug)]
pub(crate) struct CommandOutput {
    /// The command line.
    pub(crate) line: String,
    /// The exit status; none if a signal ended the command.
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl CommandOutput {
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.status, Some(0), "{self:?}");
        self.stdout
    }
}

/// Runs any command line with only these variables and `PATH`.
pub(crate) fn run(argv: &[&str], variables: &[(&str, &str)], input: &str) -> CommandOutput {
    let mut child = Command::new(argv[0])
        .args(&argv[1..])
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("RUST_BACKTRACE", "1")
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{argv:?}: {error}"));
    // Writing fails if the program does not read its input.
    drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
    let Output {
        status,
        stdout,
        stderr,
    } = child.wait_with_output().unwrap();
    CommandOutput {
        line: argv[1..].join(" "),
        status: status.code(),
        stdout: String::from_utf8_lossy(&stdout).into_owned(),
        stderr: String::from_utf8_lossy(&stderr).into_owned(),
    }
}

/// A file for a command to read, removed when dropped.
#[derive(Debug)]
pub(crate) struct TempFile {
    path: PathBuf,
}

impl TempFile {
    /// Writes the file; `name` is unique among the tests.
    pub(crate) fn new(name: &str, content: impl AsRef<[u8]>) -> Self {
        let path = std::env::temp_dir().join(format!("{PREFIX}{}-{name}", std::process::id()));
        fs::write(&path, content).unwrap();
        Self { path }
    }

    pub(crate) fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.path));
    }
}
