//! Checks of a configuration against the pod that it is for: combinations that are allowed, and may not be meant.

use std::fmt;

use anyhow::Result;
use redirect_common::{facts::Transport, net::BePort};

use crate::{
    config::{Include, Interface, RedirectConfig},
    policy::has_ipv6,
    sys::{
        cgroup::Cgroup,
        listeners,
        netns::{NetnsRef, NetnsSnapshot},
    },
};

/// One thing that may not be meant. Its text is complete without its remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// No option redirects an outbound connection.
    NothingOutbound,
    /// An excluded interface is not there.
    NoInterface(Interface),
    /// The namespace has no address yet by which IPv6 is on or off.
    NoAddress,
    /// The first address is IPv4, and there are IPv6 ones.
    Ipv6NotFirst,
    /// No socket listens at a port of the proxy.
    NobodyListens {
        /// The transport.
        transport: Transport,
        /// The port, in host byte order.
        port: u16,
        /// The option that names the port, or needs it.
        option: &'static str,
    },
    /// No process of the cgroup is in the namespace that was named.
    OtherNetns {
        /// The namespace, as it was named.
        named: NetnsRef,
        /// A process of the cgroup.
        pid: u32,
    },
    /// No process is in the cgroup, and no namespace was named.
    NoProcess,
}

impl Warning {
    /// The remedy where nothing keeps the pod's addresses and interfaces current, which the agent and
    /// `redirectctl follow` do.
    #[must_use]
    pub const fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::NoInterface(_) | Self::NoAddress => {
                Some("run `redirectctl update --keep` when it has, or `redirectctl follow`")
            }
            Self::NothingOutbound
            | Self::Ipv6NotFirst
            | Self::NobodyListens { .. }
            | Self::OtherNetns { .. }
            | Self::NoProcess => None,
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NothingOutbound => f.write_str(
                "nothing outbound is redirected: neither -i nor -q is given (-i '*' redirects everything)",
            ),
            Self::NoInterface(name) => write!(
                f,
                "-c \"{name}\": the network namespace has no such interface, so that nothing is left alone by this name"
            ),
            Self::NoAddress => f.write_str(
                "IPv6 is left alone: the network namespace has no address yet that says whether there is any",
            ),
            Self::Ipv6NotFirst => f.write_str(
                "IPv6 is left alone, because the pod's first address is IPv4: --dual-stack redirects it",
            ),
            Self::NobodyListens {
                transport,
                port,
                option,
            } => {
                let (protocol, redirected) = match transport {
                    Transport::Tcp => ("TCP", "connections"),
                    Transport::Udp => ("UDP", "queries"),
                };
                write!(
                    f,
                    "nobody listens at {protocol} port {port} ({option}) in the pod's network namespace yet: until the proxy does, redirected {redirected} are refused"
                )
            }
            Self::OtherNetns { named, pid } => write!(
                f,
                "--netns {named}: no process of the cgroup is in that network namespace, pid {pid} is in another: its connections are left alone"
            ),
            Self::NoProcess => f.write_str(
                "no process is in the cgroup: this shell's network namespace is taken for the pod's, and connections made in another are left alone: name the pod's with --netns",
            ),
        }
    }
}

/// Checks a configuration against the addresses and interfaces of a namespace.
#[must_use]
pub fn check_netns(config: &RedirectConfig, netns: &NetnsSnapshot) -> Vec<Warning> {
    let mut warnings = Vec::new();
    if !is_outbound(config) {
        warnings.push(Warning::NothingOutbound);
    }
    let has = |name: &&Interface| {
        let mut interfaces = netns.routing.interfaces.iter();
        interfaces.any(|interface| name.matches(&interface.name))
    };
    let absent = config.exclude_interfaces.iter().filter(|name| !has(name));
    warnings.extend(absent.cloned().map(Warning::NoInterface));
    match has_ipv6(&netns.addresses, config.dual_stack) {
        None => warnings.push(Warning::NoAddress),
        Some(false) if has_ipv6(&netns.addresses, true) == Some(true) => {
            warnings.push(Warning::Ipv6NotFirst);
        }
        Some(_) => {}
    }
    warnings
}

/// Checks whether the proxy listens at its ports. It may start later.
pub fn check_listeners(config: &RedirectConfig, netns: &NetnsRef) -> Result<Vec<Warning>> {
    if config.shadow {
        return Ok(Vec::new());
    }
    let (dns, dns_port) = (config.dns.is_on(), BePort::DNS_PROXY.get());
    let has_inbound = !config.inbound.is_none();
    let ports = [
        (is_outbound(config), Transport::Tcp, config.out_port, "-p"),
        (has_inbound, Transport::Tcp, config.in_port, "-z"),
        (dns, Transport::Tcp, dns_port, "--redirect-dns"),
        (dns, Transport::Udp, dns_port, "--redirect-dns"),
    ];
    netns.open()?.inside(move || {
        let mut warnings = Vec::new();
        for (is_used, transport, port, option) in ports {
            if is_used && !listeners::is_served(transport, port)? {
                warnings.push(Warning::NobodyListens {
                    transport,
                    port,
                    option,
                });
            }
        }
        Ok(warnings)
    })
}

/// Checks whether the processes of a cgroup are in the namespace that was named, if any was.
#[must_use]
pub fn check_processes(cgroup: &Cgroup, named: Option<&NetnsRef>) -> Option<Warning> {
    let processes = cgroup.processes();
    let Some(named) = named else {
        return processes.is_empty().then_some(Warning::NoProcess);
    };
    let pid = *processes.first()?;
    let id = named.open().ok()?.id();
    let is_there = |pid: u32| {
        NetnsRef::Pid(pid)
            .open()
            .is_ok_and(|netns| netns.id() == id)
    };
    (!processes.into_iter().any(is_there)).then(|| Warning::OtherNetns {
        named: named.clone(),
        pid,
    })
}

/// Whether any outbound connection may be redirected.
const fn is_outbound(config: &RedirectConfig) -> bool {
    let nothing = matches!(&config.include, Include::Cidrs(nets) if nets.is_empty());
    !nothing || !config.include_ports.is_empty()
}
