//! getsockname4 and getsockname6: the client sees its own address as under iptables.
//!
//! Minimum kernel version: 5.8.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};
use redirect_common::{facts::PolicyView as _, net::BeAddr};

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
        && let Some(own) = own_address(ctx, record.addr)
    {
        ctx.set_addr(own);
    }
    1
}

/// What the client's address in `ctx` would be without the redirect: the pod's own, where the
/// redirect made the kernel choose a loopback source for a destination that is not loopback.
#[inline(always)]
pub(super) fn own_address(ctx: &SockAddr, dialled: BeAddr) -> Option<BeAddr> {
    if !ctx.addr().is_loopback() || dialled.is_loopback() {
        return None;
    }
    let row = maps::row();
    if dialled.is_v4() {
        return (!row.self4.is_any()).then_some(row.self4);
    }
    // An IPv6 destination of the pod's own is its own source (RFC 6724, rule 1). An IPv4 one is
    // left from by the primary address of its subnet.
    if (maps::MapPolicy {
        row,
        netns: ctx.netns(),
    })
    .local(dialled)
    .is_own()
    {
        return Some(dialled);
    }
    (!row.self6.is_any()).then_some(row.self6)
}
