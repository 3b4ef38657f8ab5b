//! The hook getsockopt: answers `SO_ORIGINAL_DST` as conntrack would, without conntrack.
//!
//! The answer can be read any number of times, into buffers of the exact size or larger (proxies
//! ask with 16 and with 128 bytes). A record takes precedence over conntrack's own answer, which
//! knows only the redirected addresses.
//!
//! Minimum kernel version: 5.3.

use aya_ebpf::{macros::cgroup_sockopt, programs::SockoptContext};
use redirect_common::{
    abi::Role,
    net::{BeAddr, BePort},
};

use crate::{
    ctx::{SockAddrIn, SockAddrIn6, SockOpt},
    maps,
};

/// `SOL_IP`.
const SOL_IP: i32 = 0;
/// `SOL_IPV6`.
const SOL_IPV6: i32 = 41;
/// `SO_ORIGINAL_DST` (`linux/netfilter_ipv4.h`) and `IP6T_SO_ORIGINAL_DST`.
const SO_ORIGINAL_DST: i32 = 80;

#[cgroup_sockopt(getsockopt)]
pub(crate) fn get_sockopt(ctx: SockoptContext) -> i32 {
    let ctx = SockOpt::new(&ctx);
    let level = ctx.level();
    if ctx.name() != SO_ORIGINAL_DST || (level != SOL_IP && level != SOL_IPV6) {
        ctx.pass();
        return 1;
    }
    if let Some((addr, port)) = original_destination(&ctx) {
        answer(&ctx, level, addr, port);
    }
    1
}

/// The destination that the proxy's address stands for, or the recorded one. For a connection
/// dialled straight to a capture port it is that port's own address, as conntrack answers for any
/// connection it tracks.
#[inline(always)]
fn original_destination(ctx: &SockOpt) -> Option<(BeAddr, BePort)> {
    let row = maps::row();
    let (addr, port) = ctx.local();
    let (peer, peer_port) = ctx.remote();
    if ctx.is_tcp()
        && let Some(destination) =
            maps::destination_of_local((addr, port)).or_else(|| maps::destination(peer, peer_port))
    {
        return Some((destination.addr(), destination.port));
    }
    if let Some(record) = maps::record(ctx.sk())
        && !record.role.same(Role::SHADOW)
        && !record.role.same(Role::LISTENER)
    {
        // Not redirected by the programs, but iptables rules that are still there may have
        // translated it.
        if record.role.same(Role::ACCEPTED) && ctx.kernel_answered() {
            return None;
        }
        return Some((record.addr, record.port));
    }
    if ctx.kernel_answered() || ctx.is_listening() || !ctx.is_tcp() || row.flags.shadow() {
        return None;
    }
    row.is_capture_port(port).then_some((addr, port))
}

#[inline(always)]
fn answer(ctx: &SockOpt, level: i32, addr: BeAddr, port: BePort) {
    if level == SOL_IP && addr.is_v4() {
        ctx.answer(SockAddrIn::new(addr, port));
    } else if level == SOL_IPV6 && !addr.is_v4() {
        ctx.answer(SockAddrIn6::new(addr, port));
    }
}
