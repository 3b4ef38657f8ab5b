//! The hook `sock_ops`: passes the original destination from the client's socket to the accepted
//! one.
//!
//! `TCP_CONNECT_CB` runs in `connect`, after the source port is chosen and before the SYN is sent:
//! the record is stored in `FLOWS` under the connection's addresses. `PASSIVE_ESTABLISHED_CB` runs
//! when the accepted socket is created, before `accept` can return it: the record moves to that
//! socket. The record of a handshake that never completes is removed when the client's socket
//! closes. A connection to a stand-in has no record, and the hook returns at once.
//!
//! If inbound connections are redirected, `TCP_LISTEN_CB` stores the sockets that listen at the
//! proxy's inbound port, and marks them. A connection that a marked socket accepts at another port
//! than its own was redirected.
//!
//! Minimum kernel version: 4.16; before 5.15 the network namespace is read through BTF.

use aya_ebpf::{
    bindings::{
        BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_TCP_CONNECT_CB,
        BPF_SOCK_OPS_TCP_LISTEN_CB, BPF_TCP_CLOSE, bpf_sock,
    },
    macros::sock_ops,
    programs::SockOpsContext,
};
use redirect_common::{
    abi::{FlowKey, ListenerKey, OrigDst, Role, StandIn},
    net::{BeAddr, BePort},
};

use crate::{ctx::SockOps, maps, shadow};

#[sock_ops]
pub(crate) fn sock_ops(ctx: SockOpsContext) -> u32 {
    let ctx = SockOps::new(&ctx);
    match ctx.op() {
        BPF_SOCK_OPS_TCP_CONNECT_CB => connecting(&ctx),
        BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB => accepted(&ctx),
        BPF_SOCK_OPS_TCP_LISTEN_CB => listening(&ctx),
        BPF_SOCK_OPS_STATE_CB if ctx.arg1() == BPF_TCP_CLOSE => closed(&ctx),
        _ => {}
    }
    1
}

#[inline(always)]
const fn key(netns: u64, client: (BeAddr, BePort), proxy: (BeAddr, BePort)) -> FlowKey {
    FlowKey {
        netns,
        src: client.0,
        dst: proxy.0,
        src_port: client.1,
        dst_port: proxy.1,
        reserved: 0,
    }
}

#[inline(always)]
fn connecting(ctx: &SockOps) {
    let remote = ctx.remote();
    let Some(record) = ctx.sk().and_then(maps::record) else {
        if maps::row().is_capture_port(remote.1) && StandIn::of(remote.0).is_none() {
            // Dialled straight to the proxy. A record of an earlier connection from the same port
            // may remain, whose end no program saw because its pod was detached in between.
            maps::remove_flow(&key(ctx.netns(), ctx.local(), remote));
        }
        return;
    };
    if record.role.same(Role::SHADOW) {
        return shadow::begin(ctx, record);
    }
    // Only once, even if two policies are attached one above the other.
    if !record.role.same(Role::DECIDED) {
        return;
    }
    record.role = Role::CLIENT;
    if maps::insert_flow(&key(ctx.netns(), ctx.local(), remote), record) {
        ctx.watch_state();
    } else {
        maps::count_flow_lost();
    }
}

#[inline(always)]
fn accepted(ctx: &SockOps) {
    let Some(sk) = ctx.sk() else { return };
    let (addr, port) = ctx.local();
    if StandIn::of(addr).is_some() && maps::row().is_capture_port(port) {
        return;
    }
    let key = key(ctx.netns(), ctx.remote(), (addr, port));
    let Some(mut record) = maps::flow(&key) else {
        record_inbound(ctx, sk);
        return shadow::accepted(ctx);
    };
    record.role = Role::SERVER;
    if !maps::set_record(sk, &record) {
        maps::count_flow_lost();
    }
    maps::remove_flow(&key);
}

/// Records a connection from outside of the pod, or one that the pod's policy left alone.
#[inline(always)]
fn record_inbound(ctx: &SockOps, sk: *mut bpf_sock) {
    let row = maps::row();
    if !row.flags.inbound() {
        return;
    }
    let (addr, port) = ctx.local();
    let role = match maps::record(sk) {
        None => Role::ACCEPTED,
        Some(inherited) if inherited.role.same(Role::LISTENER) => {
            if inherited.target.to_network() == port.to_network() || row.flags.tproxy() {
                Role::ACCEPTED
            } else {
                Role::INBOUND
            }
        }
        // A policy attached below this one has recorded the connection.
        Some(_) => return,
    };
    let record = OrigDst {
        addr,
        port,
        target: row.in_port,
        serial: row.serial,
        role,
        rule: 0,
        bound: 0,
        reserved: 0,
    };
    if !maps::set_record(sk, &record) {
        maps::count_flow_lost();
    }
}

/// Stores and marks a socket that begins to listen at the proxy's inbound port.
#[inline(always)]
fn listening(ctx: &SockOps) {
    let row = maps::row();
    let (addr, port) = ctx.local();
    let Some(sk) = ctx.sk() else { return };
    let is_proxy = row.flags.inbound()
        && port.to_network() == row.in_port.to_network()
        && ctx.netns() == row.netns;
    if !is_proxy {
        // Sockets that it accepts must not inherit the record it had before it listened.
        if maps::record(sk).is_some_and(|record| !record.role.same(Role::LISTENER)) {
            maps::clear_record(sk);
        }
        return;
    }
    let family = if addr.is_v4() {
        ListenerKey::V4
    } else {
        ListenerKey::V6
    };
    maps::set_record(sk, &OrigDst::of_listener(port));
    maps::insert_listener(ListenerKey::first(row.netns, port, family), ctx.raw());
}

#[inline(always)]
fn closed(ctx: &SockOps) {
    if let Some(record) = ctx.sk().and_then(maps::record)
        && record.role.same(Role::SHADOW)
    {
        return shadow::closed(ctx, record);
    }
    maps::remove_flow(&key(ctx.netns(), ctx.local(), ctx.remote()));
}
