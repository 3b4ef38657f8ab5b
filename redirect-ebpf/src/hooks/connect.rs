//! The hooks connect4 and connect6: the decision and the redirect.
//!
//! They must not record a destination before deciding, nor leave a record behind on a path that
//! does not redirect: a socket can be connected more than once.
//!
//! Minimum kernel version: 4.17 for the hook, 5.7 for the network namespace cookie.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};
use redirect_common::{
    abi::{Destination, OrigDst, PolicyId, PolicyRow, Role, StandIn},
    chain::Verdict,
    facts::Flow,
    net::{BeAddr, BePort},
};

use crate::{
    ctx::{Family, SockAddr},
    decision::{ALLOW, REFUSE, decide_and_count},
    listener::{self, ProxyAddress},
    maps,
    owner::owner,
    source_addr::source_for,
};

#[cgroup_sock_addr(connect4)]
pub(crate) fn connect4(ctx: SockAddrContext) -> i32 {
    connect(&SockAddr::new(&ctx, Family::V4))
}

#[cgroup_sock_addr(connect6)]
pub(crate) fn connect6(ctx: SockAddrContext) -> i32 {
    connect(&SockAddr::new(&ctx, Family::V6))
}

#[inline(always)]
fn connect(ctx: &SockAddr) -> i32 {
    if !ctx.is_tcp() && !ctx.is_udp() {
        return ALLOW;
    }
    let row = maps::row();
    let source = ctx.bound();
    let (dst, port) = (ctx.addr().effective_dst(source), ctx.port());
    if already_decided(ctx, row, dst, port) {
        return ALLOW;
    }
    // A policy also belongs to a network namespace. In another one, such as that of a container
    // inside the pod's container, no proxy listens at these ports.
    let is_elsewhere = ctx.netns() != row.netns;
    if row.policy == PolicyId::NONE
        || is_elsewhere
        || (ctx.is_udp() && !row.may_capture_datagram(port))
    {
        maps::clear_record(ctx.sk());
        return ALLOW;
    }

    let flow = Flow {
        transport: ctx.transport(),
        dst,
        port,
        source,
        device: ctx.device(),
        owner: owner(ctx.sk()),
    };
    let decision = decide_and_count(ctx, row, &flow);
    let record = |target, role| OrigDst {
        addr: dst,
        port,
        target,
        serial: row.serial,
        role,
        rule: decision.rule as u8,
        bound: u8::from(!flow.source.is_any()),
        reserved: 0,
    };
    match target(row, decision.verdict) {
        target if row.flags.shadow() && ctx.is_tcp() => {
            record_shadow(ctx, &record(target.unwrap_or_default(), Role::SHADOW))
        }
        Some(target) if !row.flags.shadow() => {
            // Read anew: a value kept from above would make the verifier walk everything in between
            // once for each of its forms.
            if ctx.is_udp() && ctx.bound().is_any() {
                bind(ctx, dst);
            }
            redirect(ctx, &record(target, Role::DECIDED), decision.verdict)
        }
        _ => {
            maps::clear_record(ctx.sk());
            ALLOW
        }
    }
}

/// Records the decision in shadow mode, to compare it with the connection's real target. Datagrams
/// are not recorded: no hook sees where they arrive.
#[inline(always)]
fn record_shadow(ctx: &SockAddr, record: &OrigDst) -> i32 {
    if !maps::set_record(ctx.sk(), record) {
        maps::count_shadow(None);
    }
    ALLOW
}

/// The proxy's port to which a verdict sends the connection.
#[inline(always)]
const fn target(row: &PolicyRow, verdict: Verdict) -> Option<BePort> {
    match verdict {
        Verdict::Direct => None,
        Verdict::Out => Some(row.out_port),
        Verdict::In => Some(row.in_port),
        Verdict::Dns => Some(BePort::DNS_PROXY),
    }
}

/// Binds a UDP socket to the source address that it would have without the redirect. The proxy sees
/// that address, because no hook on the way can replace it and still let the answer through. It
/// also lets the socket be connected anew, even without disconnecting first, to destinations that
/// loopback cannot reach.
#[inline(always)]
fn bind(ctx: &SockAddr, dst: BeAddr) {
    if let Some(source) = source_for(dst) {
        ctx.bind(source);
    }
}

/// Whether another policy, attached to a cgroup below this one, has just redirected this call. The
/// kernel runs the programs of the innermost cgroup first, and the outer programs then see the
/// proxy's address.
///
/// A record with this policy's own serial is of an earlier call that never got to send. Without a
/// record the address decides: an application that dials a stand-in is treated as if it had dialled
/// the destination that the stand-in stands for. A connection that another layout has redirected,
/// from which this one takes over, is recognized by address and port alone.
#[inline(always)]
fn already_decided(ctx: &SockAddr, row: &PolicyRow, dst: BeAddr, port: BePort) -> bool {
    if !dst.is_loopback() {
        return false;
    }
    match maps::record(ctx.sk()) {
        Some(record) => {
            record.role.same(Role::DECIDED)
                && record.target.to_network() == port.to_network()
                && record.serial != row.serial
        }
        None => {
            maps::destination(dst, port).is_some()
                || (StandIn::is_of_any_layout(dst) && row.is_capture_port(port))
        }
    }
}

#[inline(always)]
fn redirect(ctx: &SockAddr, record: &OrigDst, verdict: Verdict) -> i32 {
    let addr = match address_of_proxy(ctx, record, verdict) {
        ProxyAddress::StandIn(addr) => {
            maps::clear_record(ctx.sk());
            addr
        }
        ProxyAddress::Plain(addr) => {
            if !maps::set_record(ctx.sk(), record) {
                // A proxy that cannot learn the destination would send the connection elsewhere.
                maps::count_record_failed();
                return REFUSE;
            }
            addr
        }
    };
    ctx.set_addr(addr);
    ctx.set_port(record.target);
    ALLOW
}

/// The address at which the connection reaches the proxy. Outbound IPv4 connections use several
/// addresses, because many are open at once.
#[inline(always)]
fn address_of_proxy(ctx: &SockAddr, record: &OrigDst, verdict: Verdict) -> ProxyAddress {
    if !record.addr.is_v4() {
        ProxyAddress::Plain(BeAddr::LOOPBACK6)
    } else if matches!(verdict, Verdict::Out) {
        let destination = Destination::new(record.addr, record.port, record.target);
        listener::choose(ctx, &destination)
    } else {
        ProxyAddress::Plain(BeAddr::LOOPBACK4)
    }
}
