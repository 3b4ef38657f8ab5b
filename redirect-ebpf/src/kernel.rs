//! The running kernel: its abilities, which the loader has tried, and its memory.
#![expect(
    unsafe_code,
    reason = "reads kernel memory and constants that the loader writes"
)]

use aya_ebpf::{bindings::bpf_sock, helpers::bpf_probe_read_kernel};
use redirect_common::abi::{KernelFeatures, NetnsOffsets};

/// The abilities of this kernel, filled in by the loader
/// (`redirect_common::abi::KERNEL_FEATURES`).
#[unsafe(no_mangle)]
static KERNEL_FEATURES: KernelFeatures = KernelFeatures::NONE;

/// The offsets of this kernel, filled in by the loader where it lacks
/// `KernelFeatures::NETNS_COOKIE` (`redirect_common::abi::NETNS_OFFSETS`).
#[unsafe(no_mangle)]
static NETNS_OFFSETS: NetnsOffsets = NetnsOffsets { net: 0, inode: 0 };

/// The abilities of this kernel. A condition on one of them costs nothing: the verifier knows the
/// value, and removes the path that is not taken.
#[inline(always)]
pub(crate) fn features() -> KernelFeatures {
    // SAFETY: a valid static. Volatile, or the compiler would use the zero written above instead
    // of the value that the loader wrote.
    unsafe { core::ptr::read_volatile(&raw const KERNEL_FEATURES) }
}

/// The address of a socket as a number, on which the verifier allows arithmetic.
#[inline(always)]
pub(crate) fn address_of(sk: *mut bpf_sock) -> Option<u64> {
    // Reading the pointer back from the stack through the helper turns it into a number.
    let slot = sk as u64;
    // SAFETY: `slot` is on this program's stack.
    unsafe { bpf_probe_read_kernel(&raw const slot) }.ok()
}

/// The value at `base + offset` in kernel memory.
pub(crate) fn read<T>(base: u64, offset: u32) -> Option<T> {
    let address = base.wrapping_add(u64::from(offset));
    // SAFETY: the helper checks the address and fails on one that is not readable.
    unsafe { bpf_probe_read_kernel(address as *const T) }.ok()
}

/// The pointer at `base + offset`; `None` if it is null.
pub(crate) fn follow(base: u64, offset: u32) -> Option<u64> {
    read(base, offset).filter(|pointer| *pointer != 0)
}

/// The inode of a socket's network namespace.
#[inline(always)]
pub(crate) fn netns_inode(sk: *mut bpf_sock) -> Option<u64> {
    // SAFETY: a valid static, volatile as above.
    let offsets = unsafe { core::ptr::read_volatile(&raw const NETNS_OFFSETS) };
    let net = follow(address_of(sk)?, offsets.net)?;
    read::<u32>(net, offsets.inode).map(u64::from)
}
