//! Log output of decisions for developers, behind the feature "log". Operators have the rule
//! counters.

use redirect_common::{
    decide::Decision,
    net::{BeAddr, BePort},
};

use crate::ctx::SockAddr;

/// Logs one decision, with the rule as its number in the chain.
#[cfg(feature = "log")]
#[inline(always)]
pub(crate) fn decision(ctx: &SockAddr, dst: BeAddr, port: BePort, decision: Decision) {
    aya_log_ebpf::info!(
        ctx,
        "connect {:i} port {}: verdict {} by rule {}",
        dst.octets(),
        port.get(),
        decision.verdict as u8,
        decision.rule as u8
    );
}

/// Does nothing: this object is built without logging.
#[cfg(not(feature = "log"))]
#[inline(always)]
pub(crate) const fn decision(_: &SockAddr, _: BeAddr, _: BePort, _: Decision) {}
