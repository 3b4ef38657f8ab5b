//! Developer logging of decisions, behind the feature "log". Operators have the rule counters.

use redirect_common::{
    decide::Decision,
    net::{BeAddr, BePort},
};

use crate::ctx::SockAddr;

/// Logs one decision; the rule by its number, which is its place in the chain.
#[cfg(feature = "log")]
#[inline(always)]
pub(crate) fn decided(ctx: &SockAddr, dst: BeAddr, port: BePort, decision: Decision) {
    aya_log_ebpf::info!(
        ctx,
        "connect {:i} port {}: verdict {} by rule {}",
        dst.octets(),
        port.get(),
        decision.verdict as u8,
        decision.rule as u8
    );
}

/// Nothing: this object is built without logging.
#[cfg(not(feature = "log"))]
#[inline(always)]
pub(crate) const fn decided(_: &SockAddr, _: BeAddr, _: BePort, _: Decision) {}
