//! The kernel's own account of attached programs: the properties of a link, and the programs of a hook
//! on a cgroup.
#![expect(unsafe_code, reason = "raw system calls")]

use std::{
    fs, io,
    os::fd::{AsRawFd as _, BorrowedFd},
    path::Path,
};

use anyhow::{Context as _, Result};
use rustix::io::Errno;

use super::{
    bpf::{Command, bpf_mut, number, open},
    cgroup::CgroupId,
};

/// `BPF_F_QUERY_EFFECTIVE` (include/uapi/linux/bpf.h): also the programs of the cgroups above.
const EFFECTIVE: u32 = 1;
/// `BPF_F_ALLOW_OVERRIDE`: a program below replaces this one.
const ALLOW_OVERRIDE: u32 = 1;
/// `BPF_F_ALLOW_MULTI`: programs below run as well. Links always have this flag.
const ALLOW_MULTI: u32 = 2;
/// The most programs that a query reads. The kernel allows 64 for each cgroup
/// (`BPF_CGROUP_MAX_PROGS`), and cgroups below each other share them.
const MOST: usize = 1 << 12;

/// The part of `union bpf_attr` that `BPF_PROG_QUERY` reads and writes.
#[repr(C)]
#[derive(Default)]
struct Query {
    target_fd: u32,
    attach_type: u32,
    flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    padding: u32,
    prog_attach_flags: u64,
    link_ids: u64,
    link_attach_flags: u64,
    revision: u64,
}

/// The target of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkTarget {
    /// A cgroup, by its id.
    Cgroup(CgroupId),
    /// A network namespace, by its inode.
    Netns(u64),
    /// The cgroup or namespace is gone, or the link was detached from it.
    Detached,
}

/// The properties of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkInfo {
    /// The kernel's id of the program.
    pub program: u32,
    /// A value of `enum bpf_attach_type`.
    pub attach_type: u32,
    /// The target of the link.
    pub target: LinkTarget,
}

impl LinkInfo {
    /// Reads the properties of the link that is pinned at `path`. `None` if the object that is pinned
    /// there is not a link of a cgroup or network namespace.
    pub fn read(path: &Path) -> io::Result<Option<Self>> {
        let link = open(path)?;
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", link.as_raw_fd()))?;
        Ok(Self::parse(&info))
    }

    fn parse(info: &str) -> Option<Self> {
        let number = |name: &str| {
            let mut lines = info.lines();
            let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            value.trim().parse::<u64>().ok()
        };
        // The kernel shows 0 once the target is gone.
        let target = match (number("cgroup_id"), number("netns_ino")) {
            (Some(0), _) | (None, Some(0)) => LinkTarget::Detached,
            (Some(id), _) => LinkTarget::Cgroup(id),
            (None, Some(inode)) => LinkTarget::Netns(inode),
            (None, None) => return None,
        };
        Some(Self {
            program: u32::try_from(number("prog_id")?).ok()?,
            attach_type: u32::try_from(number("attach_type")?).ok()?,
            target,
        })
    }
}

/// The kernel's id of the program of the link pinned at `path`.
pub fn program_of_link(path: &Path) -> Result<u32> {
    let info = read(path)?;
    info.map(|info| info.program)
        .with_context(|| format!("read link \"{}\": it is not a link", path.display()))
}

/// The cgroup that the link pinned at `path` is attached to; `None` if that cgroup is gone, or if no
/// link of a cgroup is pinned there.
pub fn cgroup_of_link(path: &Path) -> Result<Option<CgroupId>> {
    Ok(match read(path)?.map(|info| info.target) {
        Some(LinkTarget::Cgroup(id)) => Some(id),
        Some(LinkTarget::Netns(_) | LinkTarget::Detached) | None => None,
    })
}

/// The inode of the network namespace that the link pinned at `path` is attached to; `None` if that
/// namespace is gone, or if no link of a namespace is pinned there.
pub fn netns_of_link(path: &Path) -> Result<Option<u64>> {
    Ok(match read(path)?.map(|info| info.target) {
        Some(LinkTarget::Netns(inode)) => Some(inode),
        Some(LinkTarget::Cgroup(_) | LinkTarget::Detached) | None => None,
    })
}

fn read(path: &Path) -> Result<Option<LinkInfo>> {
    LinkInfo::read(path).with_context(|| format!("read link \"{}\"", path.display()))
}

/// The mode in which the programs of a hook are attached to one cgroup. All programs of a hook on a
/// cgroup have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachMode {
    /// Programs on cgroups below run as well, as always with links.
    Multi,
    /// A program on a cgroup below runs instead.
    Override,
    /// No program can be attached to a cgroup below.
    Exclusive,
}

/// The programs of a hook on one cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnPrograms {
    /// The kernel's ids of the programs, in the order in which they run.
    pub programs: Vec<u32>,
    /// The mode in which they are attached.
    pub mode: AttachMode,
}

/// The programs that are attached to a cgroup itself, for one value of `enum bpf_attach_type`.
pub fn own_programs(cgroup: BorrowedFd<'_>, attach_type: u32) -> io::Result<OwnPrograms> {
    let (programs, flags) = query(cgroup, attach_type, 0)?;
    let mode = if flags & ALLOW_MULTI != 0 {
        AttachMode::Multi
    } else if flags & ALLOW_OVERRIDE != 0 {
        AttachMode::Override
    } else {
        AttachMode::Exclusive
    };
    Ok(OwnPrograms { programs, mode })
}

/// The programs that run for a cgroup, its own before those of the cgroups above.
pub fn effective_programs(cgroup: BorrowedFd<'_>, attach_type: u32) -> io::Result<Vec<u32>> {
    query(cgroup, attach_type, EFFECTIVE).map(|(programs, _)| programs)
}

/// The ids of programs, and the flags that they were attached with.
fn query(cgroup: BorrowedFd<'_>, attach_type: u32, flags: u32) -> io::Result<(Vec<u32>, u32)> {
    let mut room = 16;
    loop {
        let mut ids = vec![0_u32; room];
        let mut attr = Query {
            target_fd: number(cgroup),
            attach_type,
            flags,
            prog_ids: ids.as_mut_ptr() as u64,
            prog_cnt: u32::try_from(room).unwrap_or(u32::MAX),
            ..Query::default()
        };
        // SAFETY: the command reads and writes this structure, and writes at most `prog_cnt` numbers
        // at `prog_ids`, which has room for them and lives through the call.
        match unsafe { bpf_mut(Command::ProgQuery, &mut attr) } {
            Ok(_) => {
                ids.truncate(usize::try_from(attr.prog_cnt).unwrap_or(room));
                return Ok((ids, attr.attach_flags));
            }
            Err(error)
                if error.raw_os_error() == Some(Errno::NOSPC.raw_os_error()) && room < MOST =>
            {
                room = room.saturating_mul(4);
            }
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_a_link_are_read_and_other_objects_are_no_links() {
        let cgroup = "pos:\t0\nlink_type:\tcgroup\nlink_id:\t7\nprog_tag:\tabc\nprog_id:\t12\ncgroup_id:\t4711\nattach_type:\t10\n";
        let netns = "link_type:\tnetns\nprog_id:\t13\nnetns_ino:\t4026531840\nattach_type:\t36\n";
        let info = |program, attach_type, target| {
            Some(LinkInfo {
                program,
                attach_type,
                target,
            })
        };
        let gone = cgroup.replace("4711", "0");
        let map = "pos:\t0\nmap_type:\t1\nmap_id:\t3\n";
        for (text, expected) in [
            (cgroup, info(12, 10, LinkTarget::Cgroup(4711))),
            (netns, info(13, 36, LinkTarget::Netns(4_026_531_840))),
            (&gone, info(12, 10, LinkTarget::Detached)),
            (map, None),
        ] {
            assert_eq!(LinkInfo::parse(text), expected, "{text}");
        }
    }
}
