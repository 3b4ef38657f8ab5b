//! Where we differ from iptables, and why that is all right. A difference that is not listed here
//! fails the comparison, and so does an entry that no longer differs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use redirect_testkit::Pod;

use super::view::Seen;

/// Whether what is seen behind iptables, and behind the programs, differs in this way.
type Differs = fn(iptables: &[Seen], ours: &[Seen]) -> bool;

/// One accepted difference.
pub(super) struct Accepted {
    /// The talks it is about, or how their names begin.
    talks: &'static [&'static str],
    /// What it looks like.
    differs: Differs,
    /// Why it is all right.
    pub(super) reason: &'static str,
}

impl Accepted {
    /// Whether this difference is the accepted one.
    pub(super) fn covers(&self, talk: &str, iptables: &[Seen], ours: &[Seen]) -> bool {
        self.talks.iter().any(|name| talk.starts_with(name)) && (self.differs)(iptables, ours)
    }
}

/// Whether a step failed with this error.
fn failed(seen: &[Seen], name: &str) -> bool {
    seen.iter().any(|step| step.error.as_deref() == Some(name))
}

fn succeeded(seen: &[Seen]) -> bool {
    seen.iter().all(|step| step.error.is_none())
}

/// Who answered, and as whom.
fn answers(seen: &[Seen]) -> impl Iterator<Item = (Option<&str>, Option<std::net::SocketAddr>)> {
    seen.iter().map(|step| {
        let server = step.server.as_ref().map(|(name, _)| name.as_str());
        (server, step.from)
    })
}

/// Whether all is the same but whom the servers saw.
fn same_but_source(iptables: &[Seen], ours: &[Seen]) -> bool {
    let unseen = |steps: &[Seen]| -> Vec<Seen> {
        let mut steps = steps.to_vec();
        for (_, source) in steps.iter_mut().filter_map(|step| step.server.as_mut()) {
            *source = None;
        }
        steps
    };
    unseen(iptables) == unseen(ours)
}

/// Whether some server saw this source.
fn shows(seen: &[Seen], source: IpAddr) -> bool {
    seen.iter()
        .any(|step| matches!(&step.server, Some((_, Some(shown))) if *shown == source))
}

pub(super) const ACCEPTED: &[Accepted] = &[
    Accepted {
        talks: &["connect: bound to a port", "asking, then connected"],
        differs: |iptables, ours| {
            let loopback = |v4: bool| -> IpAddr {
                if v4 {
                    Ipv4Addr::LOCALHOST.into()
                } else {
                    Ipv6Addr::LOCALHOST.into()
                }
            };
            same_but_source(iptables, ours)
                && [true, false]
                    .into_iter()
                    .any(|v4| shows(ours, loopback(v4)))
        },
        reason: "a socket that has a port, but no address, cannot be given one when it is \
                 connected: the proxy sees a query from loopback",
    },
    Accepted {
        talks: &["connected anew", "disconnected, then"],
        differs: |iptables, ours| {
            answers(iptables).eq(answers(ours))
                && ours.iter().any(|step| {
                    step.peername.is_none()
                        && [IpAddr::V4(Pod::V4), IpAddr::V6(Pod::V6)]
                            .into_iter()
                            .any(|own| step.sockname == Some(own))
                })
        },
        reason: "the address that a socket was given so that the proxy sees it stays when the \
                 socket is disconnected",
    },
    Accepted {
        talks: &["connected, and sending to another resolver"],
        differs: |iptables, ours| failed(iptables, "EAGAIN") && succeeded(ours),
        reason: "all resolvers are one address, which the socket is connected to, so that it does \
                 not turn away the answer of another",
    },
    Accepted {
        talks: &["connect: broadcast", "sendto: broadcast"],
        differs: |iptables, ours| failed(iptables, "EACCES") && succeeded(ours),
        reason: "whether a socket may broadcast is asked when there is a route, and we redirect \
                 before that",
    },
    Accepted {
        talks: &["connect: multicast6", "sendto: multicast6"],
        differs: |iptables, ours| failed(iptables, "EAGAIN") && succeeded(ours),
        reason: "ip6tables redirect the query as well, but it does not arrive",
    },
    Accepted {
        talks: &["connect: bound to 127.0.0.1", "sendto: bound to 127.0.0.1"],
        differs: |iptables, ours| failed(iptables, "EINVAL") && succeeded(ours),
        reason: "a socket bound to 127.0.0.1 has no route to the world, and iptables see only what \
                 has a route; we redirect before there is a route to look up, so that it works",
    },
];
