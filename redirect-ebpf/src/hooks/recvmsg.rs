//! The hooks recvmsg4 and recvmsg6: an answer of the mesh's resolver comes from the resolver that
//! was queried.
//!
//! The hooks run if the caller wants to know the sender of the datagram. A connected socket has one
//! peer, which its record names. For an unconnected socket the answers are assumed to come in the
//! order of the queries ([`PendingQueries`](redirect_common::abi::PendingQueries)).
//!
//! Minimum kernel version: 5.2.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};
use redirect_common::net::{BeAddr, BePort};

use crate::{
    ctx::{Family, SockAddr},
    maps,
};

#[cgroup_sock_addr(recvmsg4)]
pub(crate) fn recv_msg4(ctx: SockAddrContext) -> i32 {
    recvmsg(&SockAddr::new(&ctx, Family::V4))
}

#[cgroup_sock_addr(recvmsg6)]
pub(crate) fn recv_msg6(ctx: SockAddrContext) -> i32 {
    recvmsg(&SockAddr::new(&ctx, Family::V6))
}

#[inline(always)]
fn recvmsg(ctx: &SockAddr) -> i32 {
    if ctx.port().to_network() != BePort::DNS_PROXY.to_network() {
        return 1;
    }
    let from = ctx.addr();
    if !from.is_loopback() {
        return 1;
    }
    if let Some(resolver) = resolver(ctx, from) {
        ctx.set_addr(resolver);
        ctx.set_port(BePort::DNS);
    }
    1
}

/// The resolver that an answer from the proxy at `from` stands for. `None` if the application
/// queried the proxy itself.
#[inline(always)]
fn resolver(ctx: &SockAddr, from: BeAddr) -> Option<BeAddr> {
    if ctx.is_connected() {
        return maps::record(ctx.sk()).map(|record| record.addr);
    }
    maps::next_resolver(ctx.sk(), from)
}
