//! The context of getsockopt.
#![expect(
    unsafe_code,
    reason = "contexts are raw pointers, and the verifier checks every access through them"
)]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "fields of a context are wider than the values they hold"
)]

use aya_ebpf::{
    bindings::{bpf_sock, bpf_sockopt},
    programs::SockoptContext,
};
use redirect_common::net::{BeAddr, BePort};

use super::field::{IPPROTO_TCP, address, get, get_words, set};

/// The context of getsockopt.
pub(crate) struct SockOpt {
    raw: *mut bpf_sockopt,
}

impl SockOpt {
    #[inline(always)]
    pub(crate) const fn new(ctx: &SockoptContext) -> Self {
        Self { raw: ctx.sockopt }
    }

    #[inline(always)]
    pub(crate) fn level(&self) -> i32 {
        get!(self.raw, level)
    }

    #[inline(always)]
    pub(crate) fn name(&self) -> i32 {
        get!(self.raw, optname)
    }

    #[inline(always)]
    pub(crate) fn sk(&self) -> *mut bpf_sock {
        get!(self.raw, __bindgen_anon_1.sk)
    }

    /// The socket's local address and port.
    #[inline(always)]
    pub(crate) fn local(&self) -> (BeAddr, BePort) {
        let sk = self.sk();
        let addr = address(get!(sk, family), get!(sk, src_ip4), get_words!(sk, src_ip6));
        // Host byte order.
        (addr, BePort::new(get!(sk, src_port) as u16))
    }

    /// The address and port of the socket's peer.
    #[inline(always)]
    pub(crate) fn remote(&self) -> (BeAddr, BePort) {
        let sk = self.sk();
        let addr = address(get!(sk, family), get!(sk, dst_ip4), get_words!(sk, dst_ip6));
        (addr, BePort::from_network(get!(sk, dst_port)))
    }

    /// Whether the socket is a TCP socket. A socket that a multipath listening socket accepts from
    /// a multipath client is not one: it is above the TCP socket that has the record.
    #[inline(always)]
    pub(crate) fn is_tcp(&self) -> bool {
        get!(self.sk(), protocol) == IPPROTO_TCP
    }

    /// Whether the socket listens.
    #[inline(always)]
    pub(crate) fn is_listening(&self) -> bool {
        get!(self.sk(), state) == aya_ebpf::bindings::BPF_TCP_LISTEN
    }

    /// Whether the kernel has answered the call with success.
    #[inline(always)]
    pub(crate) fn kernel_answered(&self) -> bool {
        get!(self.raw, retval) == 0
    }

    /// Makes `value` the answer. Has no effect if the caller's buffer is too small.
    #[inline(always)]
    pub(crate) fn answer<T>(&self, value: T) {
        let start: *mut T = get!(self.raw, __bindgen_anon_2.optval).cast();
        let end: *mut T = get!(self.raw, __bindgen_anon_3.optval_end).cast();
        if start.wrapping_add(1) > end {
            return;
        }
        // SAFETY: the bounds were just checked, as the verifier requires.
        unsafe {
            start.write(value);
        }
        set!(self.raw, optlen, size_of::<T>() as i32);
        set!(self.raw, retval, 0);
    }

    /// Leaves the kernel's answer unchanged. Without this call, kernels before 5.16 fail calls
    /// whose buffer is larger than a page (upstream commit d8fe449a9c51).
    #[inline(always)]
    pub(crate) fn pass(&self) {
        if get!(self.raw, optlen) > 4096 {
            set!(self.raw, optlen, 0);
        }
    }
}
