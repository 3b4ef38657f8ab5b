//! The decision about an outbound flow, shared by the connect and sendmsg hooks.

use redirect_common::{
    abi::PolicyRow,
    chain::OUTPUT,
    decide::{Decision, decide},
    facts::{Facts, Flow, gather},
};

use crate::{
    ctx::SockAddr,
    log,
    maps::{self, MapPolicy},
};

/// Return value of a hook: the call goes on.
pub(crate) const ALLOW: i32 = 1;
/// Return value of a hook: the call fails with EPERM.
pub(crate) const REFUSE: i32 = 0;

/// Decides about a flow in the policy's network namespace, and counts the flow under its rule.
#[inline(always)]
pub(crate) fn decide_and_count(ctx: &SockAddr, row: &PolicyRow, flow: &Flow) -> Decision {
    let facts = gather(&MapPolicy(row), flow);
    // The verifier knows the bits that each path through the lookups gives. Without this the paths would never join, and
    // each would walk all rules: connect4 was 392,370 instructions to verify, and is less than a tenth of that.
    let facts = Facts::from_bits(ctx.forget(facts.bits()));
    let decision = decide(&OUTPUT, facts);
    maps::count(decision.rule);
    log::decision(ctx, flow.dst, flow.port, decision);
    decision
}
