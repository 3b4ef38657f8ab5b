//! getsockname4 and getsockname6: the client sees its own address as under iptables.
//!
//! Minimum kernel version: 5.8.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};
use redirect_common::net::BeAddr;

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
    if !ctx.is_tcp() {
        return 1;
    }
    if let Some(record) = maps::record(ctx.sk())
        && record.role.is_client()
        && let Some(own) = own_address(ctx.addr(), record.addr)
    {
        ctx.set_addr(own);
    }
    1
}

/// What a client's address `seen` would be without the redirect: the pod's own, where the redirect
/// made the kernel choose a loopback source for a destination that is not loopback.
#[inline(always)]
pub(super) fn own_address(seen: BeAddr, dialled: BeAddr) -> Option<BeAddr> {
    if !seen.is_loopback() || dialled.is_loopback() {
        return None;
    }
    let row = maps::row();
    let own = if dialled.is_v4() { row.self4 } else { row.self6 };
    (!own.is_any()).then_some(own)
}
