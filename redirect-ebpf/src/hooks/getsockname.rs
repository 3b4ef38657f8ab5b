//! getsockname4 and getsockname6: both ends see their own address as under iptables.
//!
//! The application sees the pod's address. The proxy sees `127.0.0.1`, wherever in 127/8 it was
//! reached, and its own port on what was redirected to it from outside.
//!
//! Minimum kernel version: 5.8.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};
use redirect_common::{
    abi::{Destination, OrigDst, Role},
    facts::PolicyView as _,
    net::{BeAddr, BePort},
};

use crate::{
    ctx::{Family, SockAddr},
    maps,
};

#[cgroup_sock_addr(getsockname4)]
pub(crate) fn get_sockname4(ctx: SockAddrContext) -> i32 {
    getsockname(&SockAddr::new(&ctx, Family::V4))
}

#[cgroup_sock_addr(getsockname6)]
pub(crate) fn get_sockname6(ctx: SockAddrContext) -> i32 {
    getsockname(&SockAddr::new(&ctx, Family::V6))
}

#[inline(always)]
fn getsockname(ctx: &SockAddr) -> i32 {
    if stands_for(ctx, (ctx.addr(), ctx.port())).is_some() {
        ctx.set_addr(BeAddr::LOOPBACK4);
    } else if let Some(own) = towards(ctx, stands_for(ctx, ctx.remote())) {
        ctx.set_addr(own);
    } else if let Some(record) = maps::record(ctx.sk())
        && let Some(own) = seen_address(ctx, record)
    {
        ctx.set_addr(own);
        if record.role.same(Role::INBOUND) {
            ctx.set_port(record.target);
        }
    }
    1
}

/// The destination that the proxy's end of a connection stands for: of TCP, or of MPTCP, which has names of its own.
#[inline(always)]
pub(super) fn stands_for(ctx: &SockAddr, (addr, port): (BeAddr, BePort)) -> Option<Destination> {
    if ctx.is_udp() {
        None
    } else {
        maps::destination(addr, port)
    }
}

/// What the client's address in `ctx` would be without the redirect, if that used a stand-in.
#[inline(always)]
pub(super) fn towards(ctx: &SockAddr, destination: Option<Destination>) -> Option<BeAddr> {
    let dialled = destination?.addr();
    if ctx.addr().is_loopback() {
        source_towards(dialled)
    } else {
        None
    }
}

/// What the socket's own address in `ctx` would be under iptables, if it is another one.
#[inline(always)]
fn seen_address(ctx: &SockAddr, record: &OrigDst) -> Option<BeAddr> {
    if ctx.is_udp() && !ctx.is_connected() {
        // No hook sees a UDP socket being disconnected.
        return None;
    }
    if record.role.is_client() {
        return own_address(ctx, record);
    }
    if record.role.same(Role::INBOUND) {
        return Some(redirected_to(record.addr));
    }
    (record.role.same(Role::SERVER) && record.addr.is_v4()).then_some(BeAddr::LOOPBACK4)
}

/// Where iptables would have sent what arrived for an address of the pod: to the first address of
/// the interface, in IPv6 of the same scope.
#[inline(always)]
fn redirected_to(dialled: BeAddr) -> BeAddr {
    let row = maps::row();
    let own = if dialled.is_v4() {
        row.self4
    } else {
        row.self6
    };
    if own.is_any() || dialled.is_link_local6() {
        dialled
    } else {
        own
    }
}

/// What the client's address in `ctx` would be without the redirect: the pod's own, where the
/// redirect made the kernel choose a loopback source for a destination that is not loopback.
#[inline(always)]
pub(super) fn own_address(ctx: &SockAddr, record: &OrigDst) -> Option<BeAddr> {
    if record.bound == 0 && ctx.addr().is_loopback() {
        source_towards(record.addr)
    } else {
        None
    }
}

/// The source that the kernel chooses for a destination, unless that is loopback: the pod's own
/// address.
#[inline(always)]
pub(super) fn source_towards(dialled: BeAddr) -> Option<BeAddr> {
    if dialled.is_loopback() {
        return None;
    }
    let row = maps::row();
    let view = maps::MapPolicy(row);
    if view.local(dialled).is_source() {
        return Some(dialled);
    }
    let own = if !dialled.is_v4() {
        row.self6
    } else if row.flags.has_cidrs4() && view.cidr(dialled).local() {
        // An any-IP route names no source, so that it is the destination.
        dialled
    } else {
        row.self4
    };
    (!own.is_any()).then_some(own)
}
