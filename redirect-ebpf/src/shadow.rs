//! Shadow mode: the comparison of a decision with where the connection, left alone, really went.
//!
//! With real rules in place the packets are translated after the hook has decided. The accepted
//! socket then bears the proxy's port and the client's own address and port, by which the client's
//! record is found in `REHEARSED`. A connection that no socket of the pod accepts was not captured,
//! which is known when it closes.
//!
//! A translation may change the client's port where two connections would clash. Such a connection
//! arrives unmatched; it is counted as not known.

use aya_ebpf::bindings::BPF_TCP_SYN_SENT;
use redirect_common::{
    abi::{FlowKey, OrigDst, ShadowDiffKey},
    net::{BeAddr, BePort},
};

use crate::{ctx::SockOps, maps};

/// The port of a connection that is sent nowhere.
const NOWHERE: BePort = BePort::from_network(0);

/// Neither the destination nor its port is the same at both ends.
#[inline(always)]
const fn key(netns: u64, client: (BeAddr, BePort)) -> FlowKey {
    FlowKey {
        netns,
        src: client.0,
        dst: BeAddr::ANY,
        src_port: client.1,
        dst_port: NOWHERE,
        reserved: 0,
    }
}

/// The client sends its SYN.
#[inline(always)]
pub(crate) fn begin(ctx: &SockOps, record: &OrigDst) {
    if maps::insert_shadow_flow(&key(ctx.netns(), ctx.local()), record) {
        ctx.watch_state();
    } else {
        maps::count_shadow(None);
    }
}

/// A socket of the pod has accepted a connection.
#[inline(always)]
pub(crate) fn arrived(ctx: &SockOps) {
    let row = maps::row();
    if !row.flags.shadow() {
        return;
    }
    let (_, port) = ctx.local();
    let real = if row.is_capture_port(port) {
        port
    } else {
        NOWHERE
    };
    let key = key(ctx.netns(), ctx.remote());
    if let Some(record) = maps::shadow_flow(&key) {
        // Who dials a port that connections are sent to arrives there in any case.
        let dialled = record.target.to_network() == NOWHERE.to_network()
            && record.port.to_network() == port.to_network();
        if maps::remove_shadow_flow(&key) {
            judge(&record, if dialled { NOWHERE } else { real });
        }
    } else if real.to_network() == row.out_port.to_network() {
        maps::count_shadow(None);
    }
}

/// The client's socket closes.
#[inline(always)]
pub(crate) fn end(ctx: &SockOps, record: &OrigDst) {
    if maps::remove_shadow_flow(&key(ctx.netns(), ctx.local())) {
        if ctx.arg0() == BPF_TCP_SYN_SENT {
            maps::count_shadow(None);
        } else {
            judge(record, NOWHERE);
        }
    }
}

#[inline(always)]
fn judge(record: &OrigDst, real: BePort) {
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
