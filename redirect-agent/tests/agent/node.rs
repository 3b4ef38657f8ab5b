//! A node: a folder of workload files, a state directory, and agents that are started and ended.
#![expect(
    clippy::disallowed_methods,
    reason = "the program under test is run as an operator runs it"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use redirect_testkit::GuardedFolder;
use redirect_user::node::{self, Reader};

use crate::agent_process::{Agent, BINARY, DYING, RUN, entering};

/// A node of one test; dropping it removes everything.
#[derive(Debug)]
pub(crate) struct Node {
    root: PathBuf,
    state_dir: PathBuf,
    /// Name of its network namespace, if that is not this process's.
    network: Option<String>,
    // Dropped last: they remove everything that the test has left.
    _guards: [GuardedFolder; 3],
}

/// The result of a command line.
#[derive(Debug)]
pub(crate) struct Ran {
    /// Exit status; `None` if a signal ended the process.
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Node {
    /// A node whose `name` is unique among the tests.
    pub(crate) fn new(name: &str) -> Self {
        Self::on(Path::new("/sys/fs/bpf"), name)
    }

    /// A node with its state on this BPF file system.
    pub(crate) fn on(bpffs: &Path, name: &str) -> Self {
        let unique = format!("redirect-agent-test-{}-{name}", std::process::id());
        let state_dir = bpffs.join(&unique);
        let lock = bpffs.join(format!("{unique}-lock"));
        let root = std::env::temp_dir().join(&unique);
        let guards = [&state_dir, &lock, &root].map(|folder| GuardedFolder::guard(folder).unwrap());
        fs::create_dir_all(root.join("workloads")).unwrap();
        Self {
            root,
            state_dir,
            network: None,
            _guards: guards,
        }
    }

    /// A node that is a container: its network namespace is not that of the machine's first process.
    pub(crate) fn in_network(mut self, network: &str) -> Self {
        self.network = Some(network.to_owned());
        self
    }

    /// The state directory.
    pub(crate) fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// Socket of the agent for the CNI plugin.
    pub(crate) fn socket(&self) -> PathBuf {
        self.root.join("run/cni.sock")
    }

    /// The folder of workload files.
    pub(crate) fn folder(&self) -> PathBuf {
        self.root.join("workloads")
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder().join(format!("{name}.yaml"))
    }

    /// Describes a workload, atomically.
    pub(crate) fn describe(&self, name: &str, text: &str) {
        let half = self.folder().join(format!(".{name}"));
        fs::write(&half, text).unwrap();
        fs::rename(&half, self.file(name)).unwrap();
    }

    /// Removes the description of a workload.
    pub(crate) fn forget(&self, name: &str) {
        fs::remove_file(self.file(name)).unwrap();
    }

    /// Starts an agent, and waits until it is ready.
    pub(crate) fn start(&self) -> Agent {
        let agent = self.start_with(&[]);
        agent.until_ready();
        agent
    }

    /// Starts an agent with further arguments.
    pub(crate) fn start_with(&self, args: &[&str]) -> Agent {
        self.start_by(&[], args)
    }

    /// Starts an agent with these privileges (arguments of setpriv), and with further arguments.
    pub(crate) fn start_as(&self, privileges: &[String], args: &[&str]) -> Agent {
        let privileges: Vec<_> = privileges.iter().map(String::as_str).collect();
        self.start_by(&privileges, args)
    }

    /// Starts an agent with these limits of open files.
    pub(crate) fn start_limited(&self, soft: u32, hard: u32) -> Agent {
        self.start_by(&["prlimit", &format!("--nofile={soft}:{hard}")], &[])
    }

    /// Starts an agent by a command line with this prefix, and with further arguments.
    pub(crate) fn start_by(&self, by: &[&str], args: &[&str]) -> Agent {
        self.start_logging_to(&self.root.join("log"), by, args)
    }

    /// Starts an agent in the same way, with its log in this file.
    pub(crate) fn start_logging_to(&self, log: &Path, by: &[&str], args: &[&str]) -> Agent {
        let mut setpriv = Command::new("setpriv");
        setpriv.args(DYING);
        setpriv
            .args(entering(self.network.as_deref()))
            .args(by)
            .args(RUN)
            .args(self.path_arguments())
            .args(args);
        Agent::start(setpriv, log.to_owned(), self.network.clone())
    }

    fn path_arguments(&self) -> [String; 4] {
        [
            "--bpffs".to_owned(),
            self.state_dir.display().to_string(),
            "--folder".to_owned(),
            self.folder().display().to_string(),
        ]
    }

    /// Runs a command line to its end, with the paths of this node.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        let path_arguments = self.path_arguments();
        let count = match args[0] {
            "cleanup" | "install-cni" => 2,
            _ => 4,
        };
        let done = Command::new(BINARY)
            .args(args)
            .args(&path_arguments[..count])
            .env_clear()
            .stdin(Stdio::null())
            .output()
            .unwrap();
        Ran {
            status: done.status.code(),
            stdout: String::from_utf8_lossy(&done.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&done.stderr).into_owned(),
        }
    }

    /// The attached pods.
    pub(crate) fn pods(&self) -> Vec<node::Pod> {
        match Reader::open(&self.state_dir).unwrap() {
            Some(reader) => reader.pods().unwrap(),
            None => Vec::new(),
        }
    }

    /// Paths of this node on the BPF file system.
    pub(crate) fn leftovers(&self) -> Vec<PathBuf> {
        let name = self
            .state_dir
            .file_name()
            .unwrap()
            .to_string_lossy()
            .into_owned();
        let all = fs::read_dir(self.state_dir.parent().unwrap())
            .unwrap()
            .flatten();
        let all = all.map(|entry| entry.path());
        all.filter(|path| path.to_string_lossy().contains(&name))
            .collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(node::uninstall(&self.state_dir));
    }
}
