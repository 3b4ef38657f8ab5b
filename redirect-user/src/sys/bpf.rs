//! The bpf(2) calls that aya does not offer: aya cannot pin the link of a getsockopt program, does
//! not return the cgroup of a link, does not empty an element of an array of maps, and tries no
//! program without an object.
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

/// Commands of `enum bpf_cmd` (include/uapi/linux/bpf.h).
#[derive(Clone, Copy)]
pub(super) enum Command {
    MapUpdateElem = 2,
    MapDeleteElem = 3,
    MapGetNextKey = 4,
    ProgLoad = 5,
    ObjPin = 6,
    ObjGet = 7,
    ProgQuery = 16,
    LinkCreate = 28,
    LinkUpdate = 29,
    LinkDetach = 34,
}

/// The part of `union bpf_attr` that `BPF_PROG_LOAD` reads, up to the attach type.
#[repr(C)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

/// An instruction: `struct bpf_insn`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Instruction {
    code: u8,
    /// The destination register in the lower half, the source register in the upper half.
    registers: u8,
    offset: i16,
    immediate: i32,
}

impl Instruction {
    /// `BPF_JMP | BPF_CALL`: calls the helper with this number.
    #[must_use]
    pub const fn call(helper: i32) -> Self {
        Self {
            code: 0x85,
            registers: 0,
            offset: 0,
            immediate: helper,
        }
    }

    /// `BPF_LDX | BPF_MEM | BPF_W`: loads a word from memory at a register's value and an offset.
    #[must_use]
    pub const fn load_word(to: u8, from: u8, offset: i16) -> Self {
        Self {
            code: 0x61,
            registers: from << 4 | to,
            offset,
            immediate: 0,
        }
    }

    /// `BPF_ALU64 | BPF_MOV | BPF_K` to the register of the return value.
    const fn set_result(value: i32) -> Self {
        Self {
            code: 0xb7,
            registers: 0,
            offset: 0,
            immediate: value,
        }
    }

    /// `BPF_JMP | BPF_EXIT`: ends the program.
    const EXIT: Self = Self {
        code: 0x95,
        registers: 0,
        offset: 0,
        immediate: 0,
    };
}

/// The kinds of programs that are tried without an object.
#[derive(Clone, Copy, Debug)]
pub enum ProgramKind {
    /// `sock_ops` of a cgroup.
    SockOps,
    /// A socket lookup of a network namespace.
    SkLookup,
}

impl ProgramKind {
    /// The values of `enum bpf_prog_type` and `enum bpf_attach_type`.
    const fn numbers(self) -> (u32, u32) {
        match self {
            Self::SockOps => (13, 3),
            Self::SkLookup => (30, 36),
        }
    }
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

/// Has the kernel verify a program of these instructions that then returns 1. The program is gone
/// when this call returns.
pub fn verify(kind: ProgramKind, instructions: &[Instruction]) -> io::Result<()> {
    let (prog_type, expected_attach_type) = kind.numbers();
    let end = [Instruction::set_result(1), Instruction::EXIT];
    let instructions = [instructions, &end].concat();
    let attr = ProgLoad {
        prog_type,
        insn_cnt: u32::try_from(instructions.len()).map_err(io::Error::other)?,
        insns: instructions.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: 0,
        prog_name: [0; 16],
        prog_ifindex: 0,
        expected_attach_type,
    };
    // SAFETY: the command reads the instructions and the licence, which live through the call.
    let fd = unsafe { bpf(Command::ProgLoad, &attr) }?;
    // SAFETY: the kernel has just returned this descriptor, so no other value owns it.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
    Ok(())
}

/// Calls bpf(2) with a command that writes into its structure.
///
/// # Safety
///
/// As for [`bpf`]. The kernel may write into `attr`, and where its pointers point.
pub(super) unsafe fn bpf_mut<T>(command: Command, attr: &mut T) -> io::Result<RawFd> {
    // SAFETY: promised by the caller; the kernel reads and writes no more than the given size.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as libc::c_long,
            &raw mut *attr,
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
pub(super) fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd() as u32
}

/// Attaches the program pinned at `program` to a cgroup. `attach_type` is a value of `enum
/// bpf_attach_type`. Programs on this cgroup and around it run as well if they are links, or were
/// attached with `BPF_F_ALLOW_MULTI`. A program above that was attached with `BPF_F_ALLOW_OVERRIDE`
/// no longer runs for this cgroup, and one that was attached without flags makes this call fail with
/// EPERM (`hierarchy_allows_attach` and `compute_effective_progs`, kernel/bpf/cgroup.c): callers look
/// first. The program is detached when the descriptor and all pins of the link are gone.
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
