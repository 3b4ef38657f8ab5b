//! Client source addresses as iptables would show them. The redirect makes the kernel choose a
//! loopback source, which neither end may see.

use redirect_common::{
    abi::{Destination, OrigDst},
    facts::PolicyView as _,
    net::{BeAddr, BePort},
};

use crate::{ctx::SockAddr, maps};

/// The destination that the proxy's end of a TCP or MPTCP connection stands for. An MPTCP socket has
/// its own local and peer address.
#[inline(always)]
pub(crate) fn stands_for(ctx: &SockAddr, (addr, port): (BeAddr, BePort)) -> Option<Destination> {
    if ctx.is_udp() {
        None
    } else {
        maps::destination(addr, port)
    }
}

/// The client's address without the redirect, to replace a loopback address in `ctx`. For
/// connections that use a stand-in.
#[inline(always)]
pub(crate) fn source_of_stand_in(
    ctx: &SockAddr,
    destination: Option<Destination>,
) -> Option<BeAddr> {
    let dialled = destination?.addr();
    if ctx.addr().is_loopback() {
        source_for(dialled)
    } else {
        None
    }
}

/// The client's address without the redirect, to replace a loopback address in `ctx`. For
/// connections that have a record: if the application has bound an address, that address is shown
/// unchanged.
#[inline(always)]
pub(crate) fn source_of_record(ctx: &SockAddr, record: &OrigDst) -> Option<BeAddr> {
    if record.bound == 0 && ctx.addr().is_loopback() {
        source_for(record.addr)
    } else {
        None
    }
}

/// The source address that the kernel would choose for a destination: an address of the pod. `None`
/// if the destination is loopback.
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
    let source = if !dialled.is_v4() {
        row.source6
    } else if row.flags.has_cidrs4() && view.cidr(dialled).local() {
        // An any-IP route names no source address, so the source is the destination.
        dialled
    } else {
        row.source4
    };
    (!source.is_any()).then_some(source)
}
