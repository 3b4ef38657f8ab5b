//! User namespaces: in whose ids the rules of a network namespace are written.
//!
//! iptables' owner match takes the ids of a rule for ids of the user namespace that owns the
//! network namespace (`owner_check`, `net/netfilter/xt_owner.c`). Sockets carry ids of the first one,
//! which are what the maps hold; so ids are translated on the way in, and back to be shown.
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
    /// Its first id in the namespace.
    pub inside: u32,
    /// The same one's id in the first user namespace.
    pub outside: u32,
    /// How many there are.
    pub count: u32,
}

/// What the ids of one kind, uids or gids, of a user namespace are in the first one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum IdMap {
    /// The same: it is the first one.
    #[default]
    Same,
    /// These; other ids do not exist in the namespace.
    Extents(Vec<Extent>),
}

/// The uids and gids of a user namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdMaps {
    /// Uids.
    pub uids: IdMap,
    /// Gids.
    pub gids: IdMap,
}

impl IdMap {
    /// The id in the first user namespace, of one in this; `None` if there is no such id.
    pub fn outside(&self, id: u32) -> Option<u32> {
        self.find(id, |extent| (extent.inside, extent.outside))
    }

    /// The id in this user namespace, of one in the first; `None` if it does not exist here.
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

    /// Reads the format of `/proc/PID/uid_map`: three numbers a line.
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
    /// The ids that exist in the namespace.
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
    /// The maps of the user namespace that owns a network namespace.
    ///
    /// They are read off a process that joins it for that, because a namespace need not have any
    /// process: a container runtime sets up the network before the pod's first one exists. Needs
    /// `CAP_SYS_ADMIN`, and to be called from the first user namespace.
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

/// The user namespace that owns a namespace.
fn owner(namespace: BorrowedFd<'_>) -> io::Result<File> {
    // SAFETY: the request takes no argument.
    let fd = unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_USERNS) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) }.into())
}

/// Whether this process is in a user namespace.
fn is_own(namespace: &File) -> Result<bool> {
    let own = fs::metadata("/proc/self/ns/user").context("look at the own user namespace")?;
    let other = namespace.metadata().context("look at a user namespace")?;
    Ok((own.dev(), own.ino()) == (other.dev(), other.ino()))
}

/// A process that is in a user namespace and waits there; it ends with this value, and with this
/// process.
struct Member {
    pid: libc::pid_t,
    _lifeline: PipeWriter,
}

impl Member {
    /// Starts it. Only a process with a single thread can change its user namespace, so it must be
    /// a new one.
    fn join(namespace: &File) -> io::Result<Self> {
        let (mut outcome, told) = io::pipe()?;
        let (wait, lifeline) = io::pipe()?;
        // SAFETY: between fork and its end the child calls only what may be called in a signal
        // handler, so that it does not matter in which state other threads' locks were copied.
        let pid = unsafe { libc::fork() };
        match pid {
            ..0 => return Err(io::Error::last_os_error()),
            0 => be_member(namespace, &told, &wait, &lifeline),
            _ => {}
        }
        let member = Self {
            pid,
            _lifeline: lifeline,
        };
        drop((told, wait));
        let mut error = [0];
        outcome.read_exact(&mut error)?;
        match error {
            [0] => Ok(member),
            [error] => Err(io::Error::from_raw_os_error(error.into())),
        }
    }

    /// One of its maps. A reader in the first user namespace is shown ids of that one, however many
    /// namespaces are in between (`uid_m_show`, `kernel/user_namespace.c`).
    fn map(&self, name: &str) -> Result<IdMap> {
        let path = format!("/proc/{}/{name}", self.pid);
        let text = fs::read_to_string(&path).with_context(|| format!("read \"{path}\""))?;
        IdMap::parse(&text).with_context(|| format!("read \"{path}\": unexpected \"{text}\""))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // SAFETY: takes two numbers; the process is our child and not waited for yet, so that its
        // id cannot have passed to another.
        unsafe {
            libc::kill(self.pid, libc::SIGKILL);
        }
        // SAFETY: the status may be null.
        unsafe {
            libc::waitpid(self.pid, std::ptr::null_mut(), 0);
        }
    }
}

/// The child's life: enters, tells the error number (0 if there was none), and waits until its
/// parent is gone.
fn be_member(namespace: &File, told: &PipeWriter, wait: &PipeReader, lifeline: &PipeWriter) -> ! {
    // SAFETY: the number is of an open descriptor, which this process does not use again: its copy
    // would keep the pipe open when the parent's is closed.
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
    // SAFETY: the pointer is to one byte, as it says.
    unsafe {
        libc::write(told.as_raw_fd(), byte.as_ptr().cast(), byte.len());
    }
    // SAFETY: likewise; nobody ever writes, so this returns when the other end is closed.
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
