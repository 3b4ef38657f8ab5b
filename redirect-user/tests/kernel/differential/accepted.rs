//! Where we differ from iptables, and why that is all right. A difference that is not listed here
//! fails the comparison, and so does an entry that no longer differs.

use std::net::{IpAddr, SocketAddr};

use redirect_testkit::{Dial, Flow};

use super::view::View;

/// What an accepted difference depends on: the destination, and the address the socket is bound to.
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
    /// Which connections it is about.
    about: fn(&Attempt) -> bool,
    /// Makes what is seen behind iptables what is seen behind ebpf, as far as this is the reason.
    align: fn(iptables: &mut View, ebpf: &View),
    /// Why it is all right.
    pub(crate) reason: &'static str,
}

/// The accepted differences that together make the whole one, by their places in the list; none if
/// they do not.
pub(crate) fn accepted(
    attempt: impl Into<Attempt>,
    iptables: &View,
    ebpf: &View,
) -> Option<Vec<usize>> {
    let (attempt, mut aligned) = (attempt.into(), iptables.clone());
    let mut reasons = Vec::new();
    for (place, known) in ACCEPTED.iter().enumerate() {
        let before = aligned.clone();
        if (known.about)(&attempt) {
            (known.align)(&mut aligned, ebpf);
        }
        if aligned != before {
            reasons.push(place);
        }
    }
    (aligned == *ebpf).then_some(reasons)
}

pub(crate) const ACCEPTED: &[AcceptedDifference] = &[
    AcceptedDifference {
        about: |attempt| {
            let loopback = |from: IpAddr| from.is_ipv4() && from.is_loopback();
            attempt.from.is_some_and(loopback) && !attempt.to.ip().is_loopback()
        },
        align: |iptables, ebpf| {
            if iptables.outcome == "EINVAL" && ebpf.is_redirected() {
                iptables.clone_from(ebpf);
            }
        },
        reason: "a socket bound to 127.0.0.0/8 has no route to the world, and iptables see only what \
                 has a route; we redirect before there is a route to look up, so that it works",
    },
    AcceptedDifference {
        about: |attempt| attempt.to.port() == 0,
        align: |iptables, ebpf| {
            let server = |view: &View| (view.outcome.clone(), view.orig_dst, view.server);
            if iptables.client.is_none() && server(iptables) == server(ebpf) {
                iptables.client = ebpf.client;
            }
        },
        reason: "the kernel takes a socket connected to port 0 for one that is not connected when \
                 its peer is attempt for; ebpf really is connected to the proxy's port",
    },
];
