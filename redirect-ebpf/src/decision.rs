//! What connect and sendmsg have in common: deciding about a flow.

use redirect_common::{
    abi::PolicyRow,
    chain::OUTPUT,
    decide::{Decision, decide},
    facts::{Flow, gather},
};

use crate::{
    ctx::SockAddr,
    log,
    maps::{self, MapPolicy},
};

/// What a hook answers: the call goes on.
pub(crate) const ALLOW: i32 = 1;
/// What a hook answers: the caller gets EPERM.
pub(crate) const REFUSE: i32 = 0;

/// Decides about a flow in the policy's network namespace, and counts it under its rule.
#[inline(always)]
pub(crate) fn decided(ctx: &SockAddr, row: &PolicyRow, flow: &Flow) -> Decision {
    let facts = gather(&MapPolicy(row), flow);
    let decision = decide(&OUTPUT, facts);
    maps::count(decision.rule);
    log::decided(ctx, flow.dst, flow.port, decision);
    decision
}
