//! The socket lookup of a pod's network namespace: inbound connections go to the proxy.
//!
//! Runs for a packet that belongs to no connection, before a listening socket is looked for, so that
//! a port nobody listens at is redirected as well. The accepted socket keeps the address that was
//! dialled as its own. With nobody at the proxy's port the connection is refused.
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

/// `SK_DROP`: the caller is refused.
const DROP: u32 = 0;
/// `SK_PASS`: to the socket assigned, or else to whom the kernel finds.
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

/// Hands the connection to the proxy. One that listens at `::` may take IPv4 as well.
#[inline(always)]
fn deliver(ctx: &SkLookup, row: &PolicyRow, is_v4: bool) -> bool {
    let assign = |family| {
        let key = ListenerKey::first(row.netns, row.in_port, family);
        maps::assign_listener(key, ctx.raw())
    };
    is_v4 && assign(ListenerKey::V4) || assign(ListenerKey::V6)
}
