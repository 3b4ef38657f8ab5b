//! The network namespace of a context's socket.
#![expect(unsafe_code, reason = "a helper takes the raw context")]

use aya_ebpf::{bindings::bpf_sock, helpers::generated::bpf_get_netns_cookie};

use crate::kernel;

/// The number by which user space knows the network namespace of a context: its cookie, or its
/// inode where only some hooks can read the cookie. 0, which is no namespace's number, if there is
/// no socket to read the inode from. The socket is read from the context only if it is needed.
#[inline(always)]
pub(super) fn number<C>(ctx: *mut C, sk: impl FnOnce() -> Option<*mut bpf_sock>) -> u64 {
    if kernel::features().netns_cookie() {
        // SAFETY: the helper takes the context of the running program.
        unsafe { bpf_get_netns_cookie(ctx.cast()) }
    } else {
        sk().and_then(kernel::netns_inode).unwrap_or(0)
    }
}
