//! The owner of a socket as `xt_owner` reads it: the credentials of the socket's file.
//!
//! Neither `bpf_get_current_uid_gid` (the caller's real ids) nor `sk_uid` (follows `fchown`) agrees
//! with iptables. The walk uses `bpf_probe_read_kernel` with offsets from the running kernel's BTF,
//! so one object serves every kernel.
#![expect(unsafe_code, reason = "reads kernel memory")]

use aya_ebpf::{bindings::bpf_sock, helpers::bpf_probe_read_kernel};
use redirect_common::{abi::OwnerOffsets, facts::Owner};

/// The offsets of this kernel, filled in by the loader (`redirect_common::abi::OWNER_OFFSETS`).
#[unsafe(no_mangle)]
static OWNER_OFFSETS: OwnerOffsets = OwnerOffsets {
    sk_socket: 0,
    file: 0,
    f_cred: 0,
    fsuid: 0,
    fsgid: 0,
};

fn read<T>(base: u64, offset: u32) -> Option<T> {
    let address = base.wrapping_add(u64::from(offset));
    // SAFETY: the helper checks the address and fails on one that is not readable.
    unsafe { bpf_probe_read_kernel(address as *const T) }.ok()
}

/// The pointer at `base + offset`; `None` if it is null.
fn follow(base: u64, offset: u32) -> Option<u64> {
    read(base, offset).filter(|pointer| *pointer != 0)
}

/// The owner of a socket, or `None` for a socket without a file (a kernel socket), which must not
/// be read as uid 0.
#[inline(always)]
pub(crate) fn owner(sk: *mut bpf_sock) -> Option<Owner> {
    // SAFETY: a valid static. Volatile, or the compiler would use the zeros written above instead
    // of the values that the loader wrote.
    let offsets = unsafe { core::ptr::read_volatile(&raw const OWNER_OFFSETS) };
    // The verifier forbids arithmetic on a socket pointer. Reading the pointer back from the stack
    // through the helper turns it into a number.
    let slot = sk as u64;
    // SAFETY: `slot` is on this program's stack.
    let sock = unsafe { bpf_probe_read_kernel(&raw const slot) }.ok()?;
    let socket = follow(sock, offsets.sk_socket)?;
    let file = follow(socket, offsets.file)?;
    let cred = follow(file, offsets.f_cred)?;
    Some(Owner {
        uid: read(cred, offsets.fsuid)?,
        gid: read(cred, offsets.fsgid)?,
    })
}
