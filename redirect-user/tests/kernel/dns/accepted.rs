//! The accepted differences from iptables, with their reasons. A difference that is not listed here fails the
//! comparison, and so does an entry that no longer differs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use redirect_testkit::Pod;

use super::view::StepView;

/// Whether the views behind iptables and behind the programs differ in this way.
type Differs = fn(iptables: &[StepView], ebpf: &[StepView]) -> bool;

/// One accepted difference.
pub(super) struct AcceptedDifference {
    /// The names of the scripts with this difference, or the beginnings of the names.
    scripts: &'static [&'static str],
    /// The check of the two views.
    differs: Differs,
    /// The reason why the difference is accepted.
    pub(super) reason: &'static str,
}

impl AcceptedDifference {
    /// Whether the views of a script differ in the accepted way.
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

/// The servers that answered, with the source addresses of their answers.
fn answers(
    seen: &[StepView],
) -> impl Iterator<Item = (Option<&str>, Option<std::net::SocketAddr>)> {
    seen.iter().map(|step| {
        let server = step.server.as_ref().map(|(name, _)| name.as_str());
        (server, step.from)
    })
}

/// Whether the views are equal except for the clients' addresses at the servers.
fn same_but_source(iptables: &[StepView], ebpf: &[StepView]) -> bool {
    let without_sources = |steps: &[StepView]| -> Vec<StepView> {
        let mut steps = steps.to_vec();
        for (_, source) in steps.iter_mut().filter_map(|step| step.server.as_mut()) {
            *source = None;
        }
        steps
    };
    without_sources(iptables) == without_sources(ebpf)
}

/// Whether a server saw this source address.
fn shows(seen: &[StepView], source: IpAddr) -> bool {
    seen.iter()
        .any(|step| matches!(&step.server, Some((_, Some(shown))) if *shown == source))
}

pub(super) const ACCEPTED: &[AcceptedDifference] = &[
    AcceptedDifference {
        scripts: &["connect: bound to a port", "query, then connected"],
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
        reason: "the programs cannot give an address to a socket that is bound to a port only: the \
                 proxy sees a query from loopback",
    },
    AcceptedDifference {
        scripts: &["reconnected", "disconnected, then"],
        differs: |iptables, ebpf| {
            answers(iptables).eq(answers(ebpf))
                && ebpf.iter().any(|step| {
                    step.peername.is_none()
                        && [IpAddr::V4(Pod::V4), IpAddr::V6(Pod::V6)]
                            .into_iter()
                            .any(|own| step.sockname == Some(own))
                })
        },
        reason: "the programs bind a socket to its address, so that the proxy sees it; the address stays \
                 when the socket is disconnected",
    },
    AcceptedDifference {
        scripts: &["connected, and sending to another resolver"],
        differs: |iptables, ebpf| failed(iptables, "EAGAIN") && succeeded(ebpf),
        reason: "the socket is connected to the proxy, which answers for every resolver, so that the \
                 socket accepts the answer of another resolver",
    },
    AcceptedDifference {
        scripts: &["connect: broadcast", "sendto: broadcast"],
        differs: |iptables, ebpf| failed(iptables, "EACCES") && succeeded(ebpf),
        reason: "the kernel checks the permission to broadcast after the route lookup, and the programs \
                 redirect before it",
    },
    AcceptedDifference {
        scripts: &["connect: multicast6", "sendto: multicast6"],
        differs: |iptables, ebpf| failed(iptables, "EAGAIN") && succeeded(ebpf),
        reason: "ip6tables redirect the query as well, but the query does not arrive",
    },
    AcceptedDifference {
        scripts: &["connect: bound to 127.0.0.1", "sendto: bound to 127.0.0.1"],
        differs: |iptables, ebpf| failed(iptables, "EINVAL") && succeeded(ebpf),
        reason: "a socket bound to 127.0.0.1 has no route to the world, and iptables see only \
                 connections with a route; the programs redirect before the route lookup, so that \
                 the query succeeds",
    },
];
