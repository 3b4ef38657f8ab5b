//! The hooks getsockname4 and getsockname6: both ends see their own address as under iptables.
//!
//! The application sees the pod's address. The proxy sees `127.0.0.1`, at whichever address in
//! 127/8 it was reached, and its own port for connections that were redirected to it from outside.
//!
//! Minimum kernel version: 5.8.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};
use redirect_common::{
    abi::{OrigDst, Role},
    net::BeAddr,
};

use crate::{
    ctx::{Family, SockAddr},
    maps,
    source_addr::{source_of_record, source_of_stand_in, stands_for},
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
    } else if let Some(source) = source_of_stand_in(ctx, stands_for(ctx, ctx.remote())) {
        ctx.set_addr(source);
    } else if let Some(record) = maps::record(ctx.sk())
        && let Some(addr) = seen_address(ctx, record)
    {
        ctx.set_addr(addr);
        if record.role.same(Role::INBOUND) {
            ctx.set_port(record.target);
        }
    }
    1
}

/// The address that the socket would have under iptables, if it differs from the address in `ctx`.
#[inline(always)]
fn seen_address(ctx: &SockAddr, record: &OrigDst) -> Option<BeAddr> {
    if ctx.is_udp() && !ctx.is_connected() {
        // No hook sees that a UDP socket is disconnected.
        return None;
    }
    if record.role.is_client() {
        return source_of_record(ctx, record);
    }
    if record.role.same(Role::INBOUND) {
        return Some(redirected_to(record.addr));
    }
    (record.role.same(Role::SERVER) && record.addr.is_v4()).then_some(BeAddr::LOOPBACK4)
}

/// The address to which iptables would have redirected a connection to an address of the pod: the
/// first address of the interface, in IPv6 the first one of the same scope.
#[inline(always)]
fn redirected_to(dialled: BeAddr) -> BeAddr {
    let row = maps::row();
    let first = if dialled.is_v4() {
        row.source4
    } else {
        row.source6
    };
    if first.is_any() || dialled.is_link_local6() {
        dialled
    } else {
        first
    }
}
