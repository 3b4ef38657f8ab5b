//! The accepted differences from iptables, with their reasons. A difference that is not listed here fails the
//! comparison, and so does an entry that no longer differs.

use std::net::{IpAddr, SocketAddr};

use redirect_testkit::{Dial, Flow};

use super::view::View;

/// The properties of a connection that an accepted difference depends on: the destination, and the bound address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt {
    to: SocketAddr,
    from: Option<IpAddr>,
}

impl From<&Dial> for Attempt {
    fn from(dial: &Dial) -> Self {
        Self {
            to: dial.to,
            from: dial.bind.map(|bound| bound.ip()),
        }
    }
}

impl From<&Flow> for Attempt {
    fn from(flow: &Flow) -> Self {
        Self {
            to: flow.to,
            from: flow.from,
        }
    }
}

/// One accepted difference.
pub(crate) struct AcceptedDifference {
    /// Selects the connections with this difference.
    applies_to: fn(&Attempt) -> bool,
    /// Changes the view behind iptables to the view behind the programs, as far as this difference explains.
    align: fn(iptables: &mut View, ebpf: &View),
    /// The reason why the difference is accepted.
    pub(crate) reason: &'static str,
}

/// The accepted differences that together explain the whole difference, by their index in the list; none if they do
/// not explain it.
pub(crate) fn accepted(
    attempt: impl Into<Attempt>,
    iptables: &View,
    ebpf: &View,
) -> Option<Vec<usize>> {
    let (attempt, mut aligned) = (attempt.into(), iptables.clone());
    let mut reasons = Vec::new();
    for (index, known) in ACCEPTED.iter().enumerate() {
        let before = aligned.clone();
        if (known.applies_to)(&attempt) {
            (known.align)(&mut aligned, ebpf);
        }
        if aligned != before {
            reasons.push(index);
        }
    }
    (aligned == *ebpf).then_some(reasons)
}

pub(crate) const ACCEPTED: &[AcceptedDifference] = &[
    AcceptedDifference {
        applies_to: |attempt| {
            let loopback = |from: IpAddr| from.is_ipv4() && from.is_loopback();
            attempt.from.is_some_and(loopback) && !attempt.to.ip().is_loopback()
        },
        align: |iptables, ebpf| {
            if iptables.outcome == "EINVAL" && ebpf.is_redirected() {
                iptables.clone_from(ebpf);
            }
        },
        reason: "a socket bound to 127.0.0.0/8 has no route to the world, and iptables see only \
                 connections with a route; the programs redirect before the route lookup, so that \
                 the connect succeeds",
    },
    AcceptedDifference {
        applies_to: |attempt| attempt.to.port() == 0,
        align: |iptables, ebpf| {
            let server = |view: &View| (view.outcome.clone(), view.orig_dst, view.server);
            if iptables.client.is_none() && server(iptables) == server(ebpf) {
                iptables.client = ebpf.client;
            }
        },
        reason: "`getpeername` of a socket that is connected to port 0 fails, as if the socket were not \
                 connected; behind the programs the socket is connected to the proxy's port",
    },
];
