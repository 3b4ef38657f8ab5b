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
use crate::kernel;

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

    /// The packet's source address.
    #[inline(always)]
    pub(crate) fn remote(&self) -> BeAddr {
        address(
            get!(self.raw, family),
            get!(self.raw, remote_ip4),
            get_words!(self.raw, remote_ip6),
        )
    }

    /// Whether a packet causes this lookup. A program that looks up a listening socket also runs
    /// this hook, from port 0.
    #[inline(always)]
    pub(crate) fn is_packet(&self) -> bool {
        get!(self.raw, remote_port) != 0
    }

    /// The packet's destination address and port.
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

    /// The index of the interface that the packet came in by. A packet to a local address reports
    /// the interface that has the address. 0, which is no interface, if the kernel does not tell.
    #[inline(always)]
    pub(crate) fn device(&self) -> u32 {
        if kernel::features().ingress_ifindex() {
            get!(self.raw, ingress_ifindex)
        } else {
            0
        }
    }

    /// The context itself, for helpers.
    #[inline(always)]
    pub(crate) const fn raw(&self) -> *mut bpf_sk_lookup {
        self.raw
    }
}
