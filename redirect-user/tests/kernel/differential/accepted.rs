//! Where we differ from iptables, and why that is all right. A difference that is not listed here
//! fails the comparison, and so does an entry that no longer differs.

use super::View;

/// One accepted difference.
pub(super) struct Accepted {
    /// The connections it is about.
    probes: &'static [&'static str],
    /// What it looks like.
    differs: fn(iptables: &View, ours: &View) -> bool,
    /// Why it is all right.
    pub(super) reason: &'static str,
}

impl Accepted {
    /// Whether this difference is the accepted one.
    pub(super) fn covers(&self, probe: &str, iptables: &View, ours: &View) -> bool {
        self.probes.contains(&probe) && (self.differs)(iptables, ours)
    }
}

pub(super) const ACCEPTED: &[Accepted] = &[
    Accepted {
        probes: &["port 0", "port 0, IPv6"],
        differs: |iptables, ours| {
            let server = |view: &View| (view.outcome.clone(), view.orig_dst, view.server);
            server(iptables) == server(ours) && iptables.client.is_none() && ours.client.is_some()
        },
        reason: "the kernel takes a socket connected to port 0 for one that is not connected when \
                 its peer is asked for; ours really is connected to the proxy's port",
    },
    Accepted {
        probes: &["the world from 127.0.0.1"],
        differs: |iptables, ours| iptables.outcome == "EINVAL" && ours.outcome == "out4:15001",
        reason: "a socket bound to 127.0.0.1 has no route to the world, and iptables see only what \
                 has a route; we redirect before there is a route to look up, so that it works",
    },
];
