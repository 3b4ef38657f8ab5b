//! Where we differ from iptables, and why that is all right. A difference that is not listed here
//! fails the comparison, and so does an entry that no longer differs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use redirect_testkit::Pod;

use super::view::StepView;

/// Whether what is seen behind iptables, and behind the programs, differs in this way.
type Differs = fn(iptables: &[StepView], ebpf: &[StepView]) -> bool;

/// One accepted difference.
pub(super) struct AcceptedDifference {
    /// The scripts it is about, or how their names begin.
    scripts: &'static [&'static str],
    /// What it looks like.
    differs: Differs,
    /// Why it is all right.
    pub(super) reason: &'static str,
}

impl AcceptedDifference {
    /// Whether this difference is the accepted one.
    pub(super) fn covers(&self, script: &str, iptables: &[StepView], ebpf: &[StepView]) -> bool {
        self.scripts.iter().any(|name| script.starts_with(name)) && (self.differs)(iptables, ebpf)
    }
}

/// Whether a step failed with this error.
fn failed(seen: &[StepView], name: &str) -> bool {
    seen.iter().any(|step| step.error.as_deref() == Some(name))
}

fn succeeded(seen: &[StepView]) -> bool {
    seen.iter().all(|step| step.error.is_none())
}

/// Server answered, and as whom.
fn answers(
    seen: &[StepView],
) -> impl Iterator<Item = (Option<&str>, Option<std::net::SocketAddr>)> {
    seen.iter().map(|step| {
        let server = step.server.as_ref().map(|(name, _)| name.as_str());
        (server, step.from)
    })
}

/// Whether all is the same but whom the servers saw.
fn same_but_source(iptables: &[StepView], ebpf: &[StepView]) -> bool {
    let unseen = |steps: &[StepView]| -> Vec<StepView> {
        let mut steps = steps.to_vec();
        for (_, source) in steps.iter_mut().filter_map(|step| step.server.as_mut()) {
            *source = None;
        }
        steps
    };
    unseen(iptables) == unseen(ebpf)
}

/// Whether some server saw this source.
fn shows(seen: &[StepView], source: IpAddr) -> bool {
    seen.iter()
        .any(|step| matches!(&step.server, Some((_, Some(shown))) if *shown == source))
}

pub(super) const ACCEPTED: &[AcceptedDifference] = &[
    AcceptedDifference {
        scripts: &["connect: bound to a port", "asking, then connected"],
        differs: |iptables, ebpf| {
            let loopback = |v4: bool| -> IpAddr {
                if v4 {
                    Ipv4Addr::LOCALHOST.into()
                } else {
                    Ipv6Addr::LOCALHOST.into()
                }
            };
            same_but_source(iptables, ebpf)
                && [true, false]
                    .into_iter()
                    .any(|v4| shows(ebpf, loopback(v4)))
        },
        reason: "a socket that has a port, but no address, cannot be given one when it is \
                 connected: the proxy sees a query from loopback",
    },
    AcceptedDifference {
        scripts: &["connected anew", "disconnected, then"],
        differs: |iptables, ebpf| {
            answers(iptables).eq(answers(ebpf))
                && ebpf.iter().any(|step| {
                    step.peername.is_none()
                        && [IpAddr::V4(Pod::V4), IpAddr::V6(Pod::V6)]
                            .into_iter()
                            .any(|own| step.sockname == Some(own))
                })
        },
        reason: "the address that a socket was given so that the proxy sees it stays when the \
                 socket is disconnected",
    },
    AcceptedDifference {
        scripts: &["connected, and sending to another resolver"],
        differs: |iptables, ebpf| failed(iptables, "EAGAIN") && succeeded(ebpf),
        reason: "all resolvers are one address, which the socket is connected to, so that it does \
                 not turn away the answer of another",
    },
    AcceptedDifference {
        scripts: &["connect: broadcast", "sendto: broadcast"],
        differs: |iptables, ebpf| failed(iptables, "EACCES") && succeeded(ebpf),
        reason: "whether a socket may broadcast is asked when there is a route, and we redirect \
                 before that",
    },
    AcceptedDifference {
        scripts: &["connect: multicast6", "sendto: multicast6"],
        differs: |iptables, ebpf| failed(iptables, "EAGAIN") && succeeded(ebpf),
        reason: "ip6tables redirect the query as well, but it does not arrive",
    },
    AcceptedDifference {
        scripts: &["connect: bound to 127.0.0.1", "sendto: bound to 127.0.0.1"],
        differs: |iptables, ebpf| failed(iptables, "EINVAL") && succeeded(ebpf),
        reason: "a socket bound to 127.0.0.1 has no route to the world, and iptables see only what \
                 has a route; we redirect before there is a route to look up, so that it works",
    },
];
