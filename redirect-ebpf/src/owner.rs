//! The owner of a socket as `xt_owner` reads it: the credentials of the socket's file.
//!
//! Neither `bpf_get_current_uid_gid` (the caller's real ids) nor `sk_uid` (follows `fchown`) agrees
//! with iptables. The walk uses `bpf_probe_read_kernel` with offsets from the running kernel's BTF,
//! so one object serves every kernel.
#![expect(unsafe_code, reason = "reads a constant that the loader writes")]

use aya_ebpf::bindings::bpf_sock;
use redirect_common::{abi::OwnerOffsets, facts::Owner};

use crate::kernel::{address_of, follow, read};

/// The offsets of this kernel, filled in by the loader (`redirect_common::abi::OWNER_OFFSETS`).
#[unsafe(no_mangle)]
static OWNER_OFFSETS: OwnerOffsets = OwnerOffsets {
    sk_socket: 0,
    file: 0,
    f_cred: 0,
    fsuid: 0,
    fsgid: 0,
};

/// The owner of a socket, or `None` for a socket without a file (a kernel socket), which must not
/// be read as uid 0.
#[inline(always)]
pub(crate) fn owner(sk: *mut bpf_sock) -> Option<Owner> {
    // SAFETY: a valid static. Volatile, or the compiler would use the zeros written above instead
    // of the values that the loader wrote.
    let offsets = unsafe { core::ptr::read_volatile(&raw const OWNER_OFFSETS) };
    // Zeros, not nothing, for a socket without a file: kernels before 6.3 refuse a program that copies
    // a value which was not written on every path, even if it never uses the copy.
    let ids = ids(sk, offsets);
    let known = ids.is_some();
    let (uid, gid) = ids.unwrap_or((0, 0));
    known.then_some(Owner { uid, gid })
}

#[inline(always)]
fn ids(sk: *mut bpf_sock, offsets: OwnerOffsets) -> Option<(u32, u32)> {
    let sock = address_of(sk)?;
    let socket = follow(sock, offsets.sk_socket)?;
    let file = follow(socket, offsets.file)?;
    let cred = follow(file, offsets.f_cred)?;
    Some((read(cred, offsets.fsuid)?, read(cred, offsets.fsgid)?))
}
