//! Source addresses as iptables would show them: the redirect makes the kernel choose a loopback source, which
//! neither end may see.

use redirect_common::{
    abi::{Destination, OrigDst},
    facts::PolicyView as _,
    net::{BeAddr, BePort},
};

use crate::{ctx::SockAddr, maps};

/// The destination that the proxy's end of a connection stands for: of TCP, or of MPTCP, which has names of its own.
#[inline(always)]
pub(crate) fn stands_for(ctx: &SockAddr, (addr, port): (BeAddr, BePort)) -> Option<Destination> {
    if ctx.is_udp() {
        None
    } else {
        maps::destination(addr, port)
    }
}

/// What the client's address in `ctx` would be without the redirect, if that used a stand-in.
#[inline(always)]
pub(crate) fn towards(ctx: &SockAddr, destination: Option<Destination>) -> Option<BeAddr> {
    let dialled = destination?.addr();
    if ctx.addr().is_loopback() {
        source_for(dialled)
    } else {
        None
    }
}

/// What the client's address in `ctx` would be without the redirect: the pod's own, where the
/// redirect made the kernel choose a loopback source for a destination that is not loopback.
#[inline(always)]
pub(crate) fn own_address(ctx: &SockAddr, record: &OrigDst) -> Option<BeAddr> {
    if record.bound == 0 && ctx.addr().is_loopback() {
        source_for(record.addr)
    } else {
        None
    }
}

/// The source that the kernel chooses for a destination, unless that is loopback: the pod's own
/// address.
#[inline(always)]
pub(crate) fn source_for(dialled: BeAddr) -> Option<BeAddr> {
    if dialled.is_loopback() {
        return None;
    }
    let row = maps::row();
    let view = maps::MapPolicy(row);
    if view.local(dialled).is_source() {
        return Some(dialled);
    }
    let own = if !dialled.is_v4() {
        row.source6
    } else if row.flags.has_cidrs4() && view.cidr(dialled).local() {
        // An any-IP route names no source, so that it is the destination.
        dialled
    } else {
        row.source4
    };
    (!own.is_any()).then_some(own)
}
