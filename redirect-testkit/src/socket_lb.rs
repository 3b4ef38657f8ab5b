// SPDX-License-Identifier: MIT OR Apache-2.0
//! A socket load balancer, as Cilium has one: a program on a pod's cgroup replaces a service's address with a
//! backend's at connect.
#![expect(unsafe_code, reason = "raw system calls")]

use std::{
    fs::File,
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
};

use anyhow::{Context as _, Result, bail};

use crate::pod::Pod;

/// An attached socket load balancer. Dropping it detaches the program.
#[derive(Debug)]
pub struct SocketLb {
    _attachment: Attachment,
}

/// The ways to attach a program without a link (`BPF_PROG_ATTACH`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachFlags {
    /// No flags: no program can be attached to a cgroup below.
    None = 0,
    /// `BPF_F_ALLOW_OVERRIDE`: a program on a cgroup below runs instead.
    AllowOverride = 1,
    /// `BPF_F_ALLOW_MULTI`: programs on cgroups below run as well.
    AllowMulti = 2,
}

#[derive(Debug)]
enum Attachment {
    Link {
        _link: OwnedFd,
    },
    Program {
        program: OwnedFd,
        cgroup: File,
        attach_type: u32,
    },
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let Self::Program {
            program,
            cgroup,
            attach_type,
        } = self
        else {
            return;
        };
        let attr = AttachProgram::new(program, cgroup, *attach_type, 0);
        // SAFETY: the command reads the four numbers of this structure.
        let detached = unsafe { bpf_number(PROG_DETACH, &attr) };
        // An error means that the cgroup is gone, and the attachment with it.
        drop(detached);
    }
}

impl SocketLb {
    /// Redirects connects below a pod's cgroup from `service` to `backend`, which must be of the same family.
    pub fn attach(pod: &Pod, service: SocketAddr, backend: SocketAddr) -> Result<Self> {
        if service.is_ipv4() != backend.is_ipv4() {
            bail!("balance {service} to {backend}: they are of two families");
        }
        let folder = pod.cgroup().path();
        let cgroup = File::open(folder).with_context(|| format!("open {}", folder.display()))?;
        let attach_type = if service.is_ipv4() {
            INET4_CONNECT
        } else {
            INET6_CONNECT
        };
        let program = load(&program(service, backend), attach_type)
            .context("load the socket load balancer")?;
        let link = link(&program, cgroup.as_raw_fd(), attach_type)
            .context("attach the socket load balancer")?;
        Ok(Self {
            _attachment: Attachment::Link { _link: link },
        })
    }

    /// Redirects connects below a pod's cgroup from `service` to `backend`, both IPv4, by a program that is attached
    /// without a link.
    pub fn attach_with(
        pod: &Pod,
        service: SocketAddr,
        backend: SocketAddr,
        flags: AttachFlags,
    ) -> Result<Self> {
        let folder = pod.cgroup().path();
        let cgroup = File::open(folder).with_context(|| format!("open {}", folder.display()))?;
        let attach_type = INET4_CONNECT;
        let program = load(&program(service, backend), attach_type)
            .context("load the socket load balancer")?;
        let attr = AttachProgram::new(&program, &cgroup, attach_type, flags as u32);
        // SAFETY: the command reads the four numbers of this structure.
        unsafe { bpf_number(PROG_ATTACH, &attr) }.context("attach the socket load balancer")?;
        Ok(Self {
            _attachment: Attachment::Program {
                program,
                cgroup,
                attach_type,
            },
        })
    }
}

/// `BPF_PROG_TYPE_CGROUP_SOCK_ADDR` of `enum bpf_prog_type` (include/uapi/linux/bpf.h).
const SOCK_ADDR: u32 = 18;
/// `BPF_CGROUP_INET4_CONNECT` of `enum bpf_attach_type`.
const INET4_CONNECT: u32 = 10;
/// `BPF_CGROUP_INET6_CONNECT`.
const INET6_CONNECT: u32 = 11;
/// `BPF_PROG_LOAD` of `enum bpf_cmd`.
const PROG_LOAD: libc::c_long = 5;
/// `BPF_PROG_ATTACH`.
const PROG_ATTACH: libc::c_long = 8;
/// `BPF_PROG_DETACH`.
const PROG_DETACH: libc::c_long = 9;
/// `BPF_LINK_CREATE`.
const LINK_CREATE: libc::c_long = 28;

/// `struct bpf_insn`. `registers` is the destination register's number plus 16 times the source register's.
#[repr(C)]
#[derive(Clone, Copy)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// The words of `struct bpf_sock_addr` that hold the address and the port, by their offset.
fn words(addr: SocketAddr) -> Vec<(i16, i32)> {
    const USER_IP4: i16 = 4;
    const USER_IP6: i16 = 8;
    const USER_PORT: i16 = 24;
    let (offset, octets) = match addr.ip() {
        IpAddr::V4(v4) => (USER_IP4, v4.octets().to_vec()),
        IpAddr::V6(v6) => (USER_IP6, v6.octets().to_vec()),
    };
    let offsets = (offset..).step_by(4);
    let (words, _) = octets.as_chunks();
    let mut words: Vec<_> = offsets
        .zip(words.iter().map(|&octets| word(octets)))
        .collect();
    words.push((USER_PORT, half_word(addr.port())));
    words
}

/// The word with these bytes in memory.
#[expect(
    clippy::host_endian_bytes,
    reason = "the kernel compares addresses as they lie in memory"
)]
const fn word(octets: [u8; 4]) -> i32 {
    i32::from_ne_bytes(octets)
}

/// A word whose lower half is the port in network byte order.
#[expect(
    clippy::host_endian_bytes,
    clippy::big_endian_bytes,
    reason = "the kernel compares ports as they lie in memory"
)]
fn half_word(port: u16) -> i32 {
    i32::from(u16::from_ne_bytes(port.to_be_bytes()))
}

/// Makes the program: if the destination is `service`, it becomes `backend`. Every connect is allowed.
fn program(service: SocketAddr, backend: SocketAddr) -> Vec<Instruction> {
    let instruction = |code, registers, offset, immediate| Instruction {
        code,
        registers,
        offset,
        immediate,
    };
    let mut program = Vec::new();
    let (from, to) = (words(service), words(backend));
    // Each comparison is two instructions, and so is each replacement. The end comes after all of them.
    let mut left = 2 * (from.len() + to.len());
    for (offset, word) in from {
        left -= 2;
        // w2 = *(u32 *)(r1 + offset); if w2 != word goto end
        program.push(instruction(0x61, 0x12, offset, 0));
        let end = i16::try_from(left).unwrap_or(i16::MAX);
        program.push(instruction(0x56, 0x02, end, word));
    }
    for (offset, word) in to {
        // w2 = word; *(u32 *)(r1 + offset) = w2
        program.push(instruction(0xb4, 0x02, 0, word));
        program.push(instruction(0x63, 0x21, offset, 0));
    }
    // end: r0 = 1; exit
    program.push(instruction(0xb7, 0x00, 0, 1));
    program.push(instruction(0x95, 0x00, 0, 0));
    program
}

/// The part of `union bpf_attr` that `BPF_PROG_LOAD` reads for this program.
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    device: u32,
    attach_type: u32,
}

/// The part of `union bpf_attr` that `BPF_LINK_CREATE` reads for a cgroup.
#[repr(C)]
struct Link {
    program: RawFd,
    cgroup: RawFd,
    attach_type: u32,
    flags: u32,
}

/// The part of `union bpf_attr` that `BPF_PROG_ATTACH` and `BPF_PROG_DETACH` read.
#[repr(C)]
struct AttachProgram {
    cgroup: RawFd,
    program: RawFd,
    attach_type: u32,
    flags: u32,
}

impl AttachProgram {
    fn new(program: &OwnedFd, cgroup: &File, attach_type: u32, flags: u32) -> Self {
        Self {
            cgroup: cgroup.as_raw_fd(),
            program: program.as_raw_fd(),
            attach_type,
            flags,
        }
    }
}

fn load(instructions: &[Instruction], attach_type: u32) -> io::Result<OwnedFd> {
    let license = c"Dual MIT/GPL";
    let attr = Load {
        kind: SOCK_ADDR,
        count: u32::try_from(instructions.len()).map_err(io::Error::other)?,
        instructions: instructions.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
        name: *b"socket_lb\0\0\0\0\0\0\0",
        device: 0,
        attach_type,
    };
    // SAFETY: the command reads this structure; instructions and license live until the call returns.
    unsafe { bpf(PROG_LOAD, &attr) }
}

fn link(program: &OwnedFd, cgroup: RawFd, attach_type: u32) -> io::Result<OwnedFd> {
    let attr = Link {
        program: program.as_raw_fd(),
        cgroup,
        attach_type,
        flags: 0,
    };
    // SAFETY: the command reads the four numbers of this structure.
    unsafe { bpf(LINK_CREATE, &attr) }
}

/// # Safety
///
/// `attr` must be the structure that the command reads, its pointers must be valid, and the command must return a
/// descriptor.
unsafe fn bpf<T>(command: libc::c_long, attr: &T) -> io::Result<OwnedFd> {
    // SAFETY: promised by the caller.
    let fd = unsafe { bpf_number(command, attr) }?;
    // SAFETY: the kernel has just returned this descriptor, so nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// # Safety
///
/// `attr` must be the structure that the command reads, and its pointers must be valid.
unsafe fn bpf_number<T>(command: libc::c_long, attr: &T) -> io::Result<RawFd> {
    // SAFETY: the caller promises a valid `attr`; the kernel reads no more than the given size.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw const *attr, size_of::<T>()) };
    match RawFd::try_from(result) {
        Ok(number) if number >= 0 => Ok(number),
        _ => Err(io::Error::last_os_error()),
    }
}
