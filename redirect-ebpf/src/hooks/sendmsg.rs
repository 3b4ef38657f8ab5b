//! The hooks sendmsg4 and sendmsg6: a decision about each DNS query of UDP sockets that are not
//! connected, or that name another destination than the one they are connected to.
//!
//! They must return at once for datagrams that are not queries: the hooks run for every such
//! datagram. An IPv4-mapped destination of an IPv6 socket goes through sendmsg4, although its
//! answer goes through recvmsg6.
//!
//! Minimum kernel version: 4.18.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};
use redirect_common::{
    chain::Verdict,
    facts::{Flow, Transport},
    net::{BeAddr, BePort},
};

use crate::{
    ctx::{Family, SockAddr},
    decision::{ALLOW, REFUSE, decide_and_count},
    maps,
    owner::owner,
    source_addr::source_for,
};

#[cgroup_sock_addr(sendmsg4)]
pub(crate) fn send_msg4(ctx: SockAddrContext) -> i32 {
    sendmsg(&SockAddr::new(&ctx, Family::V4))
}

#[cgroup_sock_addr(sendmsg6)]
pub(crate) fn send_msg6(ctx: SockAddrContext) -> i32 {
    sendmsg(&SockAddr::new(&ctx, Family::V6))
}

#[inline(always)]
fn sendmsg(ctx: &SockAddr) -> i32 {
    let port = ctx.port();
    // Checked before the policy is looked up, which costs more.
    if port.to_network() != BePort::DNS.to_network() {
        return ALLOW;
    }
    let row = maps::row();
    if !ctx.is_udp() || !row.may_capture_datagram(port) || ctx.netns() != row.netns {
        return ALLOW;
    }
    let source = ctx.source();
    let flow = Flow {
        transport: Transport::Udp,
        dst: ctx.addr().effective_dst(source),
        port,
        source,
        device: ctx.device(),
        owner: owner(ctx.sk()),
    };
    let decision = decide_and_count(ctx, row, &flow);
    if !matches!(decision.verdict, Verdict::Dns) || row.flags.shadow() {
        return ALLOW;
    }
    if !maps::add_pending_query(ctx.sk(), flow.dst) {
        // The application could not tell which resolver the answer stands for.
        maps::count_record_failed();
        return REFUSE;
    }
    // Read anew: a value kept from above would make the verifier walk everything in between once
    // for each of its forms.
    if ctx.source().is_any()
        && let Some(source) = source_for(flow.dst)
    {
        ctx.set_source(source);
    }
    ctx.set_addr(if flow.dst.is_v4() {
        BeAddr::LOOPBACK4
    } else {
        BeAddr::LOOPBACK6
    });
    ctx.set_port(BePort::DNS_PROXY);
    ALLOW
}
