//! The bpf(2) calls on links and arrays of maps that aya does not offer: aya cannot pin the link of
//! a getsockopt program, does not return the cgroup of a link, and does not empty an element of an
//! array of maps.
#![expect(unsafe_code, reason = "raw system calls")]

use std::{
    ffi::CString,
    fs, io,
    net::IpAddr,
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use anyhow::{Context as _, Result};
use ipnet::IpNet;

use super::cgroup::CgroupId;

/// Commands of `enum bpf_cmd` (include/uapi/linux/bpf.h).
#[derive(Clone, Copy)]
enum Command {
    MapUpdateElem = 2,
    MapDeleteElem = 3,
    MapGetNextKey = 4,
    ObjPin = 6,
    ObjGet = 7,
    LinkCreate = 28,
    LinkUpdate = 29,
    LinkDetach = 34,
}

/// The part of `union bpf_attr` that `BPF_MAP_UPDATE_ELEM`, `BPF_MAP_DELETE_ELEM` and
/// `BPF_MAP_GET_NEXT_KEY` read.
/// `value` is the place of the next key for the latter.
#[repr(C)]
struct Element {
    map_fd: u32,
    reserved: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// The part of `union bpf_attr` that `BPF_OBJ_PIN` and `BPF_OBJ_GET` read.
#[repr(C)]
struct Obj {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// The part of `union bpf_attr` that `BPF_LINK_CREATE` reads for a cgroup.
#[repr(C)]
struct LinkCreate {
    prog_fd: u32,
    target_fd: u32,
    attach_type: u32,
    flags: u32,
}

/// The part of `union bpf_attr` that `BPF_LINK_UPDATE` reads.
#[repr(C)]
struct LinkUpdate {
    link_fd: u32,
    new_prog_fd: u32,
    flags: u32,
    old_prog_fd: u32,
}

/// The part of `union bpf_attr` that `BPF_LINK_DETACH` reads.
#[repr(C)]
struct LinkDetach {
    link_fd: u32,
}

/// Calls bpf(2).
///
/// # Safety
///
/// `attr` must be the structure that the command reads, and its pointers must be valid.
unsafe fn bpf<T>(command: Command, attr: &T) -> io::Result<RawFd> {
    // SAFETY: promised by the caller; the kernel reads no more than the given size.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as libc::c_long,
            &raw const *attr,
            size_of::<T>(),
        )
    };
    match RawFd::try_from(result) {
        Ok(result) if result >= 0 => Ok(result),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Opens the object that is pinned at `path`.
pub fn open(path: &Path) -> io::Result<OwnedFd> {
    let pathname = CString::new(path.as_os_str().as_bytes())?;
    let attr = Obj {
        pathname: pathname.as_ptr() as u64,
        bpf_fd: 0,
        file_flags: 0,
    };
    // SAFETY: the command reads a path, which lives through the call.
    let fd = unsafe { bpf(Command::ObjGet, &attr) }?;
    // SAFETY: the kernel has just returned this descriptor, so no other value owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[expect(clippy::cast_sign_loss, reason = "an open descriptor is not negative")]
fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd() as u32
}

/// Attaches the program pinned at `program` to a cgroup. `attach_type` is a value of `enum
/// bpf_attach_type`. The program coexists with every other program on the cgroup and around it, as
/// links always do. It is detached when the descriptor and all pins of the link are gone.
pub fn link_cgroup(
    program: &Path,
    cgroup: BorrowedFd<'_>,
    attach_type: u32,
) -> io::Result<OwnedFd> {
    let program = open(program)?;
    let attr = LinkCreate {
        prog_fd: number(program.as_fd()),
        target_fd: number(cgroup),
        attach_type,
        flags: 0,
    };
    // SAFETY: the command reads these four numbers.
    let fd = unsafe { bpf(Command::LinkCreate, &attr) }?;
    // SAFETY: the kernel has just returned this descriptor, so no other value owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Stores a map in an element of an array of maps. Returns when no program can still use the map
/// that was there before: the kernel waits for an RCU grace period, since Linux 5.0 (commit
/// 1ae80cf31938 upstream).
pub fn set_element(array: BorrowedFd<'_>, index: u32, map: BorrowedFd<'_>) -> io::Result<()> {
    let value = number(map);
    let attr = Element {
        map_fd: number(array),
        reserved: 0,
        key: &raw const index as u64,
        value: &raw const value as u64,
        flags: 0,
    };
    // SAFETY: the command reads a key and a value of four bytes, the sizes in every array of maps;
    // both live through the call.
    unsafe { bpf(Command::MapUpdateElem, &attr) }.map(|_zero| ())
}

/// Empties an element of an array of maps, and waits as [`set_element`] does. The element may be
/// empty already.
pub fn clear_element(array: BorrowedFd<'_>, index: u32) -> io::Result<()> {
    let attr = Element {
        map_fd: number(array),
        reserved: 0,
        key: &raw const index as u64,
        value: 0,
        flags: 0,
    };
    // SAFETY: the command reads a key of four bytes, which lives through the call.
    match unsafe { bpf(Command::MapDeleteElem, &attr) } {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The range after `net` in a trie of addresses, in the order in which the kernel lists them: a range
/// after all ranges inside it, and otherwise by address. The trie must contain `net`.
#[expect(
    clippy::host_endian_bytes,
    reason = "the kernel reads the length in the machine's order"
)]
pub fn next_range(trie: BorrowedFd<'_>, net: &IpNet) -> io::Result<Option<IpNet>> {
    /// The size of the largest key of a trie (`kernel/bpf/lpm_trie.c`).
    const LARGEST: usize = 4 + 256;
    let mut key = [0_u8; LARGEST];
    let length = u32::from(net.prefix_len()).to_ne_bytes();
    let address = match net.network() {
        IpAddr::V4(addr) => addr.octets().to_vec(),
        IpAddr::V6(addr) => addr.octets().to_vec(),
    };
    for (place, byte) in key.iter_mut().zip(length.into_iter().chain(address)) {
        *place = byte;
    }
    let mut next = [0_u8; LARGEST];
    let attr = Element {
        map_fd: number(trie),
        reserved: 0,
        key: key.as_ptr() as u64,
        value: next.as_mut_ptr() as u64,
        flags: 0,
    };
    // SAFETY: the command reads a key and writes one, neither larger than these two, which live
    // through the call.
    match unsafe { bpf(Command::MapGetNextKey, &attr) } {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    }
    let [l0, l1, l2, l3, address @ ..] = next;
    let length = u8::try_from(u32::from_ne_bytes([l0, l1, l2, l3]));
    let address = match net {
        IpNet::V4(_) => address.first_chunk::<4>().map(|bytes| IpAddr::from(*bytes)),
        IpNet::V6(_) => address
            .first_chunk::<16>()
            .map(|bytes| IpAddr::from(*bytes)),
    };
    let found = address.zip(length.ok());
    Ok(found.and_then(|(address, length)| IpNet::new(address, length).ok()))
}

/// Pins a link at `path`.
pub fn pin(link: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let pathname = CString::new(path.as_os_str().as_bytes())?;
    let attr = Obj {
        pathname: pathname.as_ptr() as u64,
        bpf_fd: number(link),
        file_flags: 0,
    };
    // SAFETY: the command reads a path and a descriptor; both live through the call.
    unsafe { bpf(Command::ObjPin, &attr) }.map(|_zero| ())
}

/// Replaces the program of the link pinned at `path`: every later call runs the new program. Since
/// Linux 5.7, for links of network namespaces 5.9.
pub fn update(path: &Path, program: BorrowedFd<'_>) -> io::Result<()> {
    let link = open(path)?;
    let attr = LinkUpdate {
        link_fd: number(link.as_fd()),
        new_prog_fd: number(program),
        flags: 0,
        old_prog_fd: 0,
    };
    // SAFETY: the command reads these four numbers.
    unsafe { bpf(Command::LinkUpdate, &attr) }.map(|_zero| ())
}

/// Detaches the link pinned at `path`: no later connection meets its program. Removing the pin
/// detaches the link too, but in the background. Since Linux 5.9.
pub fn detach(path: &Path) -> io::Result<()> {
    let link = open(path)?;
    let attr = LinkDetach {
        link_fd: number(link.as_fd()),
    };
    // SAFETY: the command reads this number.
    unsafe { bpf(Command::LinkDetach, &attr) }.map(|_zero| ())
}

/// Detaches the link pinned at `path`, and removes the pin. The pin may be gone already, and so may
/// the cgroup or namespace of the link.
pub fn remove(path: &Path) -> Result<()> {
    // Even if the detach fails, removing the pin ends the link.
    drop(detach(path));
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove \"{}\"", path.display()))
        }
        _ => Ok(()),
    }
}

/// The cgroup that the link pinned at `path` is attached to; `None` if that cgroup is gone.
pub fn cgroup_of_link(path: &Path) -> Result<Option<CgroupId>> {
    // The kernel shows 0 once the cgroup has been removed.
    about_link(path, "cgroup_id:").map(|id| (id != 0).then_some(id))
}

/// The inode of the network namespace that the link pinned at `path` is attached to; `None` if that
/// namespace is gone.
pub fn netns_of_link(path: &Path) -> Result<Option<u64>> {
    // The kernel shows 0 once the namespace has been removed.
    about_link(path, "netns_ino:").map(|inode| (inode != 0).then_some(inode))
}

/// The kernel's id of the program of the link pinned at `path`.
pub fn program_of_link(path: &Path) -> Result<u32> {
    about_link(path, "prog_id:").and_then(|id| Ok(u32::try_from(id)?))
}

/// A number that the kernel shows about the link pinned at `path`.
fn about_link(path: &Path, what: &str) -> Result<u64> {
    let shown = path.display();
    let link = open(path).with_context(|| format!("open link \"{shown}\""))?;
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", link.as_raw_fd()))
        .with_context(|| format!("read the properties of link \"{shown}\""))?;
    info.lines()
        .find_map(|line| line.strip_prefix(what))
        .and_then(|value| value.trim().parse().ok())
        .with_context(|| format!("open link \"{shown}\": it is not a link with a `{what}`"))
}
