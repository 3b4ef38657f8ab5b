//! Shadow mode: the comparison of a decision with the real target of a connection that was left
//! alone.
//!
//! With real iptables rules in place, packets are translated after the hook has decided. The
//! accepted socket then has the proxy's port as its own and the client's address and port as its
//! peer, which are the key of the client's record in `REHEARSED`. A connection that no socket of
//! the pod accepts was not captured, which is known when the client's socket closes.
//!
//! A translation can change the client's port if two connections would clash. The record of such a
//! connection is not found when it arrives; it is counted as unknown.

use aya_ebpf::bindings::BPF_TCP_SYN_SENT;
use redirect_common::{
    abi::{FlowKey, OrigDst, ShadowDiffKey},
    net::{BeAddr, BePort},
};

use crate::{ctx::SockOps, maps};

/// The target of a connection that is not captured.
const NO_PORT: BePort = BePort::from_network(0);

/// The key of a client's record. It contains neither the destination nor its port, which differ at
/// the two ends.
#[inline(always)]
const fn key(netns: u64, client: (BeAddr, BePort)) -> FlowKey {
    FlowKey {
        netns,
        src: client.0,
        dst: BeAddr::ANY,
        src_port: client.1,
        dst_port: NO_PORT,
        reserved: 0,
    }
}

/// Stores the decision when the client sends its SYN.
#[inline(always)]
pub(crate) fn begin(ctx: &SockOps, record: &OrigDst) {
    if maps::insert_shadow_flow(&key(ctx.netns(), ctx.local()), record) {
        ctx.watch_state();
    } else {
        maps::count_shadow(None);
    }
}

/// Compares the decision with the port at which a socket of the pod has accepted the connection.
#[inline(always)]
pub(crate) fn accepted(ctx: &SockOps) {
    let row = maps::row();
    if !row.flags.shadow() {
        return;
    }
    let (_, port) = ctx.local();
    let real = if row.is_capture_port(port) {
        port
    } else {
        NO_PORT
    };
    let key = key(ctx.netns(), ctx.remote());
    if let Some(record) = maps::shadow_flow(&key) {
        // A connection dialled to a capture port arrives there in any case.
        let dialled = record.target.to_network() == NO_PORT.to_network()
            && record.port.to_network() == port.to_network();
        if maps::remove_shadow_flow(&key) {
            compare(&record, if dialled { NO_PORT } else { real });
        }
    } else if real.to_network() == row.out_port.to_network() {
        maps::count_shadow(None);
    }
}

/// Counts the connection as not captured when the client's socket closes and no socket of the pod
/// has accepted it.
#[inline(always)]
pub(crate) fn closed(ctx: &SockOps, record: &OrigDst) {
    if maps::remove_shadow_flow(&key(ctx.netns(), ctx.local())) {
        if ctx.arg0() == BPF_TCP_SYN_SENT {
            maps::count_shadow(None);
        } else {
            compare(record, NO_PORT);
        }
    }
}

/// Counts whether the decided target equals the real one, and stores a difference.
#[inline(always)]
fn compare(record: &OrigDst, real: BePort) {
    let agreed = record.target.to_network() == real.to_network();
    maps::count_shadow(Some(agreed));
    if !agreed {
        maps::note_shadow_diff(&ShadowDiffKey {
            serial: record.serial,
            addr: record.addr,
            port: record.port,
            decided: record.target,
            real,
            rule: record.rule,
            reserved: 0,
        });
    }
}
