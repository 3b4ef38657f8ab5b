//! The socket lookup of a pod's network namespace: sends inbound connections to the proxy.
//!
//! The hook runs for a packet that belongs to no connection, before the kernel looks for a
//! listening socket, so connections to ports without a listening socket are redirected too. The
//! accepted socket has the dialled address as its local address. If no socket listens at the
//! proxy's port, the connection is refused.
//!
//! Minimum kernel version: 5.9.

use aya_ebpf::{macros::sk_lookup, programs::SkLookupContext};
use redirect_common::{
    abi::{ListenerKey, PolicyId, PolicyRow},
    chain::{INBOUND, Verdict},
    decide::decide,
    facts::{InboundFlow, gather_inbound},
};

use crate::{
    ctx::SkLookup,
    maps::{self, MapPolicy},
};

/// `SK_DROP`: the connection is refused.
const DROP: u32 = 0;
/// `SK_PASS`: the packet goes to the assigned socket, or else to the socket that the kernel finds.
const PASS: u32 = 1;

#[sk_lookup]
pub(crate) fn inbound(ctx: SkLookupContext) -> u32 {
    let ctx = SkLookup::new(&ctx);
    if !ctx.is_tcp() || !ctx.is_packet() {
        return PASS;
    }
    let Some(row) = maps::inbound_row() else {
        return PASS;
    };
    if row.policy == PolicyId::NONE {
        return PASS;
    }
    let (local, port) = ctx.local();
    let arrival = InboundFlow {
        remote: ctx.remote(),
        local,
        port,
        device: ctx.device(),
    };
    let decision = decide(&INBOUND, gather_inbound(&MapPolicy(row), &arrival));
    maps::count_inbound(decision.rule);
    if decision.verdict as u8 == Verdict::In as u8 && !deliver(&ctx, row, local.is_v4()) {
        return DROP;
    }
    PASS
}

/// Assigns the connection to a listening socket of the proxy. A socket that listens at `::` can
/// accept IPv4 as well.
#[inline(always)]
fn deliver(ctx: &SkLookup, row: &PolicyRow, is_v4: bool) -> bool {
    let assign = |family| {
        let key = ListenerKey::first(row.netns, row.in_port, family);
        maps::assign_listener(key, ctx.raw())
    };
    is_v4 && assign(ListenerKey::V4) || assign(ListenerKey::V6)
}
