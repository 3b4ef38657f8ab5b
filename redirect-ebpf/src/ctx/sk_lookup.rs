//! The context of a socket lookup.
#![expect(
    unsafe_code,
    reason = "contexts are raw pointers, and the verifier checks every access through them"
)]
#![expect(
    clippy::cast_possible_truncation,
    reason = "fields of a context are wider than the values they hold"
)]

use aya_ebpf::{bindings::bpf_sk_lookup, programs::SkLookupContext};
use redirect_common::net::{BeAddr, BePort};

use super::field::{IPPROTO_TCP, address, get, get_words};

/// The context of a socket lookup: a packet for which no connection was found.
pub(crate) struct SkLookup {
    raw: *mut bpf_sk_lookup,
}

impl SkLookup {
    #[inline(always)]
    pub(crate) const fn new(ctx: &SkLookupContext) -> Self {
        Self { raw: ctx.lookup }
    }

    #[inline(always)]
    pub(crate) fn is_tcp(&self) -> bool {
        get!(self.raw, protocol) == IPPROTO_TCP
    }

    /// Where the packet comes from.
    #[inline(always)]
    pub(crate) fn remote(&self) -> BeAddr {
        address(
            get!(self.raw, family),
            get!(self.raw, remote_ip4),
            get_words!(self.raw, remote_ip6),
        )
    }

    /// Whether it is a packet: a program's own question for a listener, which goes the same way, is
    /// asked from port 0.
    #[inline(always)]
    pub(crate) fn is_packet(&self) -> bool {
        get!(self.raw, remote_port) != 0
    }

    /// Where it goes.
    #[inline(always)]
    pub(crate) fn local(&self) -> (BeAddr, BePort) {
        let addr = address(
            get!(self.raw, family),
            get!(self.raw, local_ip4),
            get_words!(self.raw, local_ip6),
        );
        // Host byte order.
        (addr, BePort::new(get!(self.raw, local_port) as u16))
    }

    /// The index of the interface that it came in by; a call to an own address shows the one that
    /// has the address.
    #[inline(always)]
    pub(crate) fn device(&self) -> u32 {
        get!(self.raw, ingress_ifindex)
    }

    /// The context itself, for helpers.
    #[inline(always)]
    pub(crate) const fn raw(&self) -> *mut bpf_sk_lookup {
        self.raw
    }
}
