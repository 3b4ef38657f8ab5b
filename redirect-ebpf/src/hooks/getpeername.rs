//! The hooks getpeername4 and getpeername6: both ends see the peer that iptables would show.
//!
//! The application sees the address it dialled. The proxy sees the pod's address instead of the
//! loopback source that the redirect made the kernel choose. The hooks also run for `accept`.
//!
//! Minimum kernel version: 5.8.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};
use redirect_common::abi::Role;

use crate::{
    ctx::{Family, SockAddr},
    maps,
    source_addr::{source_of_record, source_of_stand_in, stands_for},
};

#[cgroup_sock_addr(getpeername4)]
pub(crate) fn get_peername4(ctx: SockAddrContext) -> i32 {
    getpeername(&SockAddr::new(&ctx, Family::V4))
}

#[cgroup_sock_addr(getpeername6)]
pub(crate) fn get_peername6(ctx: SockAddrContext) -> i32 {
    getpeername(&SockAddr::new(&ctx, Family::V6))
}

#[inline(always)]
fn getpeername(ctx: &SockAddr) -> i32 {
    if let Some(destination) = stands_for(ctx, (ctx.addr(), ctx.port())) {
        ctx.set_addr(destination.addr());
        ctx.set_port(destination.port);
    } else if !ctx.is_udp()
        && let Some(source) = source_of_stand_in(ctx, maps::destination_of_local(ctx.local()))
    {
        ctx.set_addr(source);
    } else if let Some(record) = maps::record(ctx.sk()) {
        if record.role.is_client() {
            // Only if the peer is the proxy: a socket that was connected anew while no program was
            // attached still has its old record.
            if ctx.addr().is_loopback() && ctx.port().to_network() == record.target.to_network() {
                ctx.set_addr(record.addr);
                ctx.set_port(record.port);
            }
        } else if record.role.same(Role::SERVER)
            && let Some(source) = source_of_record(ctx, record)
        {
            ctx.set_addr(source);
        }
    }
    1
}
