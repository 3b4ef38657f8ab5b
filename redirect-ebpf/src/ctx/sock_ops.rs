//! The context of `sock_ops`.
#![expect(
    unsafe_code,
    clippy::multiple_unsafe_ops_per_block,
    reason = "contexts are raw pointers, and the verifier checks every access through them"
)]
#![expect(
    clippy::cast_possible_truncation,
    reason = "fields of a context are wider than the values they hold"
)]

use aya_ebpf::{
    bindings::{bpf_sock, bpf_sock_ops},
    helpers::generated::bpf_sock_ops_cb_flags_set,
    programs::SockOpsContext,
};
use redirect_common::net::{BeAddr, BePort};

use super::{
    field::{address, get, get_words},
    netns,
};

/// The context of `sock_ops`.
pub(crate) struct SockOps {
    raw: *mut bpf_sock_ops,
}

impl SockOps {
    #[inline(always)]
    pub(crate) const fn new(ctx: &SockOpsContext) -> Self {
        Self { raw: ctx.ops }
    }

    /// The kind of this callback (`BPF_SOCK_OPS_*`).
    #[inline(always)]
    pub(crate) fn op(&self) -> u32 {
        get!(self.raw, op)
    }

    /// The first argument of the callback.
    #[inline(always)]
    pub(crate) fn arg0(&self) -> u32 {
        // SAFETY: as in `get`; the first of four arguments.
        unsafe { core::ptr::read_volatile((&raw const (*self.raw).__bindgen_anon_1).cast::<u32>()) }
    }

    /// The second argument of the callback.
    #[inline(always)]
    pub(crate) fn arg1(&self) -> u32 {
        // SAFETY: as in `get`; the second of four arguments.
        unsafe {
            core::ptr::read_volatile(
                (&raw const (*self.raw).__bindgen_anon_1)
                    .cast::<u32>()
                    .wrapping_add(1),
            )
        }
    }

    /// The socket. `None` in some callbacks, for which the kernel has no socket.
    #[inline(always)]
    pub(crate) fn sk(&self) -> Option<*mut bpf_sock> {
        let sk: *mut bpf_sock = get!(self.raw, __bindgen_anon_2.sk);
        if sk.is_null() { None } else { Some(sk) }
    }

    /// The number of the socket's network namespace.
    #[inline(always)]
    pub(crate) fn netns(&self) -> u64 {
        netns::number(self.raw, || self.sk())
    }

    #[inline(always)]
    pub(crate) fn local(&self) -> (BeAddr, BePort) {
        let addr = address(
            get!(self.raw, family),
            get!(self.raw, local_ip4),
            get_words!(self.raw, local_ip6),
        );
        // Host byte order, unlike the remote port.
        (addr, BePort::new(get!(self.raw, local_port) as u16))
    }

    #[inline(always)]
    pub(crate) fn remote(&self) -> (BeAddr, BePort) {
        let addr = address(
            get!(self.raw, family),
            get!(self.raw, remote_ip4),
            get_words!(self.raw, remote_ip6),
        );
        // Network byte order, in the upper half of 32 bits (include/uapi/linux/bpf.h).
        (
            addr,
            BePort::from_network((get!(self.raw, remote_port) >> 16) as u16),
        )
    }

    /// The context itself, for helpers.
    #[inline(always)]
    pub(crate) const fn raw(&self) -> *mut bpf_sock_ops {
        self.raw
    }

    /// Asks for a callback on every change of the connection's state.
    #[inline(always)]
    pub(crate) fn watch_state(&self) {
        const STATE_CB: u32 = aya_ebpf::bindings::BPF_SOCK_OPS_STATE_CB_FLAG;
        let flags = get!(self.raw, bpf_sock_ops_cb_flags) | STATE_CB;
        // SAFETY: the helper takes this context. It fails only for unknown flags.
        let _: i64 = unsafe { bpf_sock_ops_cb_flags_set(self.raw, flags.cast_signed()) };
    }
}
