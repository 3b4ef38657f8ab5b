//! Network namespaces by name: opening and entering them.

use std::{
    fmt,
    fs::{self, File, Metadata},
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::MetadataExt as _,
    },
    path::PathBuf,
    str::FromStr,
};

use anyhow::{Context as _, Result, bail};
use rustix::{
    io::Errno,
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

use crate::sys::thread::run_in_new_thread;

/// The name of a network namespace, as a user writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetnsRef {
    /// A file, such as `/run/netns/NAME` or `/proc/PID/ns/net`.
    Path(PathBuf),
    /// The namespace of a process: `pid:N`.
    Pid(u32),
    /// The namespace of the calling process.
    Own,
}

impl FromStr for NetnsRef {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("pid:") {
            Some(pid) => pid
                .parse()
                .map(Self::Pid)
                .map_err(|_error| format!("\"{pid}\" is not a process id")),
            None if text.is_empty() => Err("empty: give a path or pid:N".into()),
            None if text.bytes().all(|byte| byte.is_ascii_digit()) => Err(format!(
                "\"{text}\" is a number: write pid:{text} for a process, ./{text} for a file"
            )),
            None => Ok(Self::Path(text.into())),
        }
    }
}

impl fmt::Display for NetnsRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Pid(pid) => write!(f, "pid:{pid}"),
            Self::Own => f.write_str("the caller's own"),
        }
    }
}

impl NetnsRef {
    /// The file of the namespace.
    pub fn path(&self) -> PathBuf {
        match self {
            Self::Path(path) => path.clone(),
            Self::Pid(pid) => PathBuf::from(format!("/proc/{pid}/ns/net")),
            Self::Own => PathBuf::from("/proc/self/ns/net"),
        }
    }

    /// Opens the namespace.
    pub fn open(&self) -> Result<NetnsHandle> {
        let path = self.path();
        let open = || format!("open network namespace \"{}\"", path.display());
        let opened = File::open(&path);
        let kind = opened.as_ref().err().map(io::Error::kind);
        let remedy = match (self, kind) {
            (Self::Pid(_), Some(io::ErrorKind::PermissionDenied)) => " (needs CAP_SYS_PTRACE)",
            (Self::Pid(_), Some(io::ErrorKind::NotFound)) => {
                " (that process has ended: name one that runs)"
            }
            (Self::Path(_), Some(io::ErrorKind::NotFound)) => {
                " (name a file of /run/netns, or /proc/PID/ns/net)"
            }
            _ => "",
        };
        let file = opened.with_context(|| format!("{}{remedy}", open()))?;
        let id = identity(&file.metadata().with_context(open)?);
        let name = self.clone();
        Ok(NetnsHandle { name, file, id })
    }
}

/// The identity of a namespace while it exists: device and inode.
pub type NetnsId = (u64, u64);

/// An open network namespace. The namespace lives at least as long as this value.
#[derive(Debug)]
pub struct NetnsHandle {
    name: NetnsRef,
    file: File,
    id: NetnsId,
}

impl NetnsHandle {
    /// The name under which the namespace was opened.
    pub const fn name(&self) -> &NetnsRef {
        &self.name
    }

    /// The file through which the namespace was opened.
    pub fn path(&self) -> PathBuf {
        self.name.path()
    }

    /// The identity of the namespace.
    pub const fn id(&self) -> NetnsId {
        self.id
    }

    /// Whether the name under which the namespace was opened still stands for it.
    pub fn is_current(&self) -> bool {
        let file = fs::metadata(self.path());
        file.is_ok_and(|file| identity(&file) == self.id)
    }

    /// Calls `act` in the namespace, in a new thread.
    pub fn inside<T: Send>(&self, act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let enter_and_act = || {
            let own =
                fs::metadata("/proc/thread-self/ns/net").context("read this thread's namespace")?;
            // Entering needs a privilege, even for the namespace that the thread is in.
            if identity(&own) != self.id {
                let network = Some(LinkNameSpaceType::Network);
                match move_into_link_name_space(self.file.as_fd(), network) {
                    Err(Errno::INVAL) => bail!("it is not a network namespace"),
                    entered => entered.context("enter it (needs CAP_SYS_ADMIN)")?,
                }
            }
            act()
        };
        run_in_new_thread(enter_and_act)
    }
}

impl AsFd for NetnsHandle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn identity(metadata: &Metadata) -> NetnsId {
    (metadata.dev(), metadata.ino())
}
