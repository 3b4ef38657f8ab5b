//! User namespaces, and the translation of ids between them.
//!
//! iptables' owner match interprets the ids of a rule in the user namespace that owns the network
//! namespace (`owner_check`, `net/netfilter/xt_owner.c`). Sockets have ids of the initial user
//! namespace, and so do the maps. Therefore configured ids are translated for the maps, and
//! translated back to be shown.
#![expect(
    unsafe_code,
    reason = "NS_GET_USERNS, fork and setns have no safe wrapper"
)]

use std::{
    fmt,
    fs::{self, File},
    io::{self, PipeReader, PipeWriter, Read as _},
    os::{
        fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::fs::MetadataExt as _,
    },
};

use anyhow::{Context as _, Result};

/// A range of ids: one line of `/proc/PID/uid_map`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The first id in the namespace.
    pub inside: u32,
    /// The corresponding id in the initial user namespace.
    pub outside: u32,
    /// The number of ids.
    pub count: u32,
}

/// The translation of the ids of one kind, uids or gids, between a user namespace and the initial
/// one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum IdMap {
    /// Ids are the same: the namespace is the initial one.
    #[default]
    Same,
    /// The ids of these ranges are translated; other ids do not exist in the namespace.
    Extents(Vec<Extent>),
}

/// The uids and gids of a user namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdMaps {
    /// The map of user ids.
    pub uids: IdMap,
    /// The map of group ids.
    pub gids: IdMap,
}

impl IdMap {
    /// Translates an id of this user namespace into the initial one; `None` if there is no such id.
    pub fn outside(&self, id: u32) -> Option<u32> {
        self.find(id, |extent| (extent.inside, extent.outside))
    }

    /// Translates an id of the initial user namespace into this one; `None` if it does not exist
    /// here.
    pub fn inside(&self, id: u32) -> Option<u32> {
        self.find(id, |extent| (extent.outside, extent.inside))
    }

    fn find(&self, id: u32, from_to: impl Fn(&Extent) -> (u32, u32)) -> Option<u32> {
        match self {
            Self::Same => Some(id),
            Self::Extents(extents) => extents.iter().find_map(|extent| {
                let (from, to) = from_to(extent);
                let nth = id.checked_sub(from).filter(|nth| *nth < extent.count)?;
                to.checked_add(nth)
            }),
        }
    }

    /// Parses the format of `/proc/PID/uid_map`: three numbers per line.
    fn parse(text: &str) -> Option<Self> {
        let extent = |line: &str| {
            let mut numbers = line.split_whitespace().map(|number| number.parse().ok());
            Some(Extent {
                inside: numbers.next()??,
                outside: numbers.next()??,
                count: numbers.next()??,
            })
        };
        text.lines()
            .map(extent)
            .collect::<Option<_>>()
            .map(Self::Extents)
    }
}

impl fmt::Display for IdMap {
    /// Writes the ids that exist in the namespace.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let extents = match self {
            Self::Same => return f.write_str("all"),
            Self::Extents(extents) => extents,
        };
        if extents.is_empty() {
            return f.write_str("none");
        }
        let ranges: Vec<_> = extents
            .iter()
            .map(|extent| {
                let last = extent.inside.saturating_add(extent.count.saturating_sub(1));
                format!("{}-{last}", extent.inside)
            })
            .collect();
        f.write_str(&ranges.join(", "))
    }
}

impl IdMaps {
    /// Reads the maps of the user namespace that owns a network namespace.
    ///
    /// A new process joins the user namespace so that its maps can be read, because a namespace
    /// need not have any process: a container runtime sets up the network before the pod's first
    /// process exists. Needs `CAP_SYS_ADMIN`, and a caller in the initial user namespace.
    pub(super) fn of_owner(netns: BorrowedFd<'_>) -> Result<Self> {
        let owner = owner(netns).context("find the user namespace that owns it")?;
        if is_own(&owner)? {
            return Ok(Self::default());
        }
        let member = Member::join(&owner)
            .context("enter the user namespace that owns it (needs CAP_SYS_ADMIN)")?;
        Ok(Self {
            uids: member.map("uid_map")?,
            gids: member.map("gid_map")?,
        })
    }
}

/// `NS_GET_USERNS` (include/uapi/linux/nsfs.h), `_IO(0xb7, 1)`; since Linux 4.9.
const NS_GET_USERNS: libc::Ioctl = 0xb701;

/// Opens the user namespace that owns a namespace.
fn owner(namespace: BorrowedFd<'_>) -> io::Result<File> {
    // SAFETY: the request takes no argument.
    let fd = unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_USERNS) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just returned this descriptor, so no other value owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) }.into())
}

/// Whether this process is in the user namespace.
fn is_own(namespace: &File) -> Result<bool> {
    let own = fs::metadata("/proc/self/ns/user").context("read this process's user namespace")?;
    let other = namespace.metadata().context("read the user namespace")?;
    Ok((own.dev(), own.ino()) == (other.dev(), other.ino()))
}

/// A process that has joined a user namespace and waits there. It ends when this value is dropped,
/// and with this process.
struct Member {
    pid: libc::pid_t,
    _lifeline: PipeWriter,
}

impl Member {
    /// Starts the process. Only a process with a single thread can change its user namespace, so it
    /// must be a new one.
    fn join(namespace: &File) -> io::Result<Self> {
        let (mut outcome, outcome_writer) = io::pipe()?;
        let (wait, lifeline) = io::pipe()?;
        // SAFETY: between fork and its end the child calls only functions that are allowed in a
        // signal handler, so the state in which the locks of other threads were copied does not
        // matter.
        let pid = unsafe { libc::fork() };
        match pid {
            ..0 => return Err(io::Error::last_os_error()),
            0 => run_member(namespace, &outcome_writer, &wait, &lifeline),
            _ => {}
        }
        let member = Self {
            pid,
            _lifeline: lifeline,
        };
        drop((outcome_writer, wait));
        let mut error = [0];
        outcome.read_exact(&mut error)?;
        match error {
            [0] => Ok(member),
            [error] => Err(io::Error::from_raw_os_error(error.into())),
        }
    }

    /// One of the process's maps. A reader in the initial user namespace sees ids of that one,
    /// however many namespaces are in between (`uid_m_show`, `kernel/user_namespace.c`).
    fn map(&self, name: &str) -> Result<IdMap> {
        let path = format!("/proc/{}/{name}", self.pid);
        let text = fs::read_to_string(&path).with_context(|| format!("read \"{path}\""))?;
        IdMap::parse(&text).with_context(|| format!("read \"{path}\": unexpected \"{text}\""))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // SAFETY: takes two numbers; the process is our child and has not been waited for, so its
        // id cannot have been reused.
        unsafe {
            libc::kill(self.pid, libc::SIGKILL);
        }
        // SAFETY: the status may be null.
        unsafe {
            libc::waitpid(self.pid, std::ptr::null_mut(), 0);
        }
    }
}

/// Runs the child process: enters the namespace, sends the error number (0 for success), and waits
/// until its parent is gone.
fn run_member(
    namespace: &File,
    outcome: &PipeWriter,
    wait: &PipeReader,
    lifeline: &PipeWriter,
) -> ! {
    // SAFETY: the number is of an open descriptor, which this process does not use again. The copy
    // would keep the pipe open after the parent's descriptor is closed.
    unsafe {
        libc::close(lifeline.as_raw_fd());
    }
    // SAFETY: takes two numbers.
    let entered = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWUSER) };
    let error = if entered == 0 {
        0
    } else {
        // Error numbers are below 4096; those of setns are below 256.
        io::Error::last_os_error()
            .raw_os_error()
            .and_then(|error| u8::try_from(error).ok())
            .unwrap_or(u8::MAX)
    };
    let mut byte = [error];
    // SAFETY: the pointer is to one byte, which is the given length.
    unsafe {
        libc::write(outcome.as_raw_fd(), byte.as_ptr().cast(), byte.len());
    }
    // SAFETY: as above. The parent never writes, so the call returns when the other end is closed.
    unsafe {
        libc::read(wait.as_raw_fd(), byte.as_mut_ptr().cast(), byte.len());
    }
    // SAFETY: takes a number, and runs no destructor.
    unsafe { libc::_exit(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_translated_both_ways() {
        let map =
            IdMap::parse("         0     100000      65536\n     70000       1000          1\n")
                .expect("a map");
        for (inside, outside) in [
            (0, 100_000),
            (1337, 101_337),
            (65_535, 165_535),
            (70_000, 1000),
        ] {
            assert_eq!(map.outside(inside), Some(outside));
            assert_eq!(map.inside(outside), Some(inside));
        }
        for inside in [65_536, 69_999, 70_001, u32::MAX] {
            assert_eq!(map.outside(inside), None, "{inside}");
        }
        for outside in [0, 999, 1001, 99_999, 165_536, u32::MAX] {
            assert_eq!(map.inside(outside), None, "{outside}");
        }
        assert_eq!(map.to_string(), "0-65535, 70000-70000");
    }

    #[test]
    fn a_namespace_may_have_no_ids_yet() {
        let map = IdMap::parse("").expect("a map");
        assert_eq!(map.outside(0), None);
        assert_eq!(map.to_string(), "none");
        assert_eq!(IdMap::parse("0 1\n"), None);
        assert_eq!(IdMap::Same.outside(7), Some(7));
    }
}
