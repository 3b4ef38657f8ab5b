//! Where we differ from iptables, and why that is all right. A difference that is not listed here
//! fails the comparison, and so does an entry that no longer differs.

use std::net::{IpAddr, SocketAddr};

use redirect_testkit::{Dial, Flow};

use super::View;

/// What an accepted difference depends on: the destination, and the address the socket is bound to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    to: SocketAddr,
    from: Option<IpAddr>,
}

impl From<&Dial> for Asked {
    fn from(dial: &Dial) -> Self {
        Self {
            to: dial.to,
            from: dial.bind.map(|bound| bound.ip()),
        }
    }
}

impl From<&Flow> for Asked {
    fn from(flow: &Flow) -> Self {
        Self {
            to: flow.to,
            from: flow.from,
        }
    }
}

/// One accepted difference.
pub(crate) struct Accepted {
    /// Which connections it is about.
    about: fn(&Asked) -> bool,
    /// Makes what is seen behind iptables what is seen behind ours, as far as this is the reason.
    forgive: fn(iptables: &mut View, ours: &View),
    /// Why it is all right.
    pub(crate) reason: &'static str,
}

/// The accepted differences that together make the whole one, by their places in the list; none if
/// they do not.
pub(crate) fn accepted(
    asked: impl Into<Asked>,
    iptables: &View,
    ours: &View,
) -> Option<Vec<usize>> {
    let (asked, mut forgiven) = (asked.into(), iptables.clone());
    let mut reasons = Vec::new();
    for (place, known) in ACCEPTED.iter().enumerate() {
        let before = forgiven.clone();
        if (known.about)(&asked) {
            (known.forgive)(&mut forgiven, ours);
        }
        if forgiven != before {
            reasons.push(place);
        }
    }
    (forgiven == *ours).then_some(reasons)
}

pub(crate) const ACCEPTED: &[Accepted] = &[
    Accepted {
        about: |asked| {
            let loopback = |from: IpAddr| from.is_ipv4() && from.is_loopback();
            asked.from.is_some_and(loopback) && !asked.to.ip().is_loopback()
        },
        forgive: |iptables, ours| {
            if iptables.outcome == "EINVAL" && ours.is_redirected() {
                iptables.clone_from(ours);
            }
        },
        reason: "a socket bound to 127.0.0.0/8 has no route to the world, and iptables see only what \
                 has a route; we redirect before there is a route to look up, so that it works",
    },
    Accepted {
        about: |asked| asked.to.port() == 0,
        forgive: |iptables, ours| {
            let server = |view: &View| (view.outcome.clone(), view.orig_dst, view.server);
            if iptables.client.is_none() && server(iptables) == server(ours) {
                iptables.client = ours.client;
            }
        },
        reason: "the kernel takes a socket connected to port 0 for one that is not connected when \
                 its peer is asked for; ours really is connected to the proxy's port",
    },
];
