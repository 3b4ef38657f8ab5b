//! A cgroup for one command.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use redirect_user::{
    config::RedirectConfig,
    node::{Reader, Writer},
    sys::{
        capability,
        cgroup::{self, Cgroup},
        dir_lock::{DirLock, Locked},
        netns::{NetnsRef, NetnsSnapshot},
    },
};
use tokio::process::{Child, Command};

/// Start of the cgroups' names. The process id follows, and a number where a process of another
/// PID namespace has the same id.
const PREFIX: &str = "redirect-exec-";
/// Processes with the same id that run at once, at most.
const SAME_ID: u32 = 100;

/// A cgroup for one command, below the caller's; removed when dropped.
#[derive(Debug)]
pub struct ExecCgroup {
    state_dir: PathBuf,
    parent: PathBuf,
    folder: PathBuf,
    /// Held while this process lives, so that no other one takes the cgroup for a leftover.
    _lock: DirLock,
    netns: NetnsSnapshot,
}

impl ExecCgroup {
    /// Makes the cgroup. First removes cgroups of earlier runs that were killed.
    pub fn new(state_dir: &Path) -> Result<Self> {
        capability::require(&capability::NEEDED)?;
        let parent = cgroup::own()?;
        remove_leftovers(state_dir, &parent);
        let netns = NetnsSnapshot::read(&NetnsRef::Own)?;
        let (folder, lock) = make(&parent)?;
        let cgroup = Self {
            state_dir: state_dir.to_owned(),
            parent,
            folder,
            _lock: lock,
            netns,
        };
        for folder in [cgroup.app(), cgroup.proxy()] {
            fs::create_dir(&folder).with_context(|| making(&folder))?;
        }
        Ok(cgroup)
    }

    /// Redirects the connections of the cgroup.
    pub(super) fn attach(&self, config: &RedirectConfig) -> Result<Cgroup> {
        let cgroup = Cgroup::open(&self.folder)?;
        Writer::open(&self.state_dir)?.attach(&cgroup, &self.netns, config)?;
        Ok(cgroup)
    }

    /// The network namespace of the caller and of the command.
    pub const fn netns(&self) -> &NetnsSnapshot {
        &self.netns
    }

    pub(super) fn app(&self) -> PathBuf {
        self.folder.join("app")
    }

    pub(super) fn proxy(&self) -> PathBuf {
        self.folder.join("proxy")
    }

    /// Starts the command in the cgroup `app`. This process enters the cgroup, forks, and leaves it again, because a
    /// socket belongs to the cgroup that its process is in when the socket is made.
    pub(super) fn start(&self, command: &[OsString]) -> io::Result<Child> {
        let [program, arguments @ ..] = command else {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        };
        let mut command = Command::new(program);
        command.args(arguments);
        self.spawn(&self.app(), &mut command)
    }

    pub(super) fn spawn(&self, folder: &Path, command: &mut Command) -> io::Result<Child> {
        enter(folder)?;
        let child = command.spawn();
        enter(&self.parent)?;
        child
    }

    /// Stops redirecting, and unloads the programs if no other cgroup is attached.
    pub(super) fn detach(&self, cgroup: &Cgroup) -> Result<()> {
        let mut writer = Writer::open(&self.state_dir)?;
        let pod = writer.pod(cgroup.id(), cgroup.path())?;
        writer.detach(&[pod])?;
        writer.uninstall_if_unused()
    }
}

impl Drop for ExecCgroup {
    fn drop(&mut self) {
        remove(&self.folder, &self.parent);
    }
}

/// Makes a cgroup with the first name that is free, and locks it.
fn make(parent: &Path) -> Result<(PathBuf, DirLock)> {
    let id = std::process::id();
    for number in 1..=SAME_ID {
        let suffix = if number == 1 {
            String::new()
        } else {
            format!("-{number}")
        };
        let folder = parent.join(format!("{PREFIX}{id}{suffix}"));
        match fs::create_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            made => made.with_context(|| making(&folder))?,
        }
        if let Locked::Held(lock) = DirLock::try_exclusive(&folder)? {
            return Ok((folder, lock));
        }
        // Another run has just taken it for a leftover.
    }
    bail!(
        "make a cgroup in \"{}\": {SAME_ID} names of process id {id} are taken; wait for a run of \
         `redirectctl exec` to end",
        parent.display()
    )
}

fn making(folder: &Path) -> String {
    format!("make cgroup \"{}\"", folder.display())
}

/// Moves this process into a cgroup.
fn enter(folder: &Path) -> io::Result<()> {
    fs::write(folder.join("cgroup.procs"), "0")
}

/// Removes a cgroup and its children. Moves processes that the command left behind to `parent`.
fn remove(folder: &Path, parent: &Path) {
    let Ok(cgroup) = Cgroup::open(folder) else {
        return;
    };
    for pid in cgroup.processes() {
        // The process may have ended meanwhile.
        drop(fs::write(parent.join("cgroup.procs"), pid.to_string()));
    }
    for folder in [folder.join("app"), folder.join("proxy"), folder.to_owned()] {
        drop(fs::remove_dir(folder));
    }
}

/// Removes cgroups of earlier runs whose process and command have ended.
fn remove_leftovers(state_dir: &Path, parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if !name.to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let folder = entry.path();
        let Ok(Locked::Held(_lock)) = DirLock::try_exclusive(&folder) else {
            continue;
        };
        let Ok(cgroup) = Cgroup::open(&folder) else {
            continue;
        };
        if cgroup.processes().is_empty() {
            // The attach of this run meets the same failure again, and reports it.
            drop(detach(state_dir, &cgroup));
            remove(&folder, parent);
        }
    }
}

/// Detaches a cgroup if it is attached. Removing the cgroup is not enough: the kernel removes the links some time
/// later, and until then they look alive.
fn detach(state_dir: &Path, cgroup: &Cgroup) -> Result<()> {
    if Reader::open(state_dir)?.is_none() {
        return Ok(());
    }
    let mut writer = Writer::open(state_dir)?;
    let pod = writer.pod(cgroup.id(), cgroup.path())?;
    writer.detach(&[pod])
}
