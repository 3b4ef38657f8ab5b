//! Checks of a configuration against the pod that it is for. They find combinations that are
//! allowed but probably not intended.

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

/// A combination that is probably not intended. The text is complete without its remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// No option redirects an outbound connection.
    NothingOutbound,
    /// An excluded interface does not exist.
    NoInterface(Interface),
    /// The namespace has no address yet that decides whether IPv6 is on.
    NoAddress,
    /// The first address is IPv4, and the pod has IPv6 addresses too.
    Ipv6NotFirst,
    /// No socket listens at a port of the proxy.
    NotListening {
        /// The transport protocol of the port.
        transport: Transport,
        /// The port, in host byte order.
        port: u16,
        /// The option that names or needs the port.
        option: &'static str,
    },
    /// No process of the cgroup is in the named namespace.
    OtherNetns {
        /// The namespace, as the user named it.
        named: NetnsRef,
        /// A process of the cgroup.
        pid: u32,
    },
    /// The cgroup contains no process, and no namespace was named.
    NoProcess,
}

impl Warning {
    /// Whether a whole mesh may be meant to be like this, so that the warning is a remark where nobody has typed the
    /// options for one pod.
    #[must_use]
    pub const fn is_by_design(&self) -> bool {
        matches!(self, Self::NothingOutbound | Self::Ipv6NotFirst)
    }

    /// The remedy for a pod whose addresses and interfaces are not kept up to date. The agent and
    /// `redirectctl follow` keep them up to date, so there it is not needed.
    #[must_use]
    pub const fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::NoInterface(_) | Self::NoAddress => {
                Some("run `redirectctl update --keep` once it has one, or `redirectctl follow`")
            }
            Self::NothingOutbound
            | Self::Ipv6NotFirst
            | Self::NotListening { .. }
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
                "-c \"{name}\": the network namespace has no such interface yet, so this name has no effect"
            ),
            Self::NoAddress => f.write_str(
                "IPv6 is left alone: the network namespace has no address yet that decides about it",
            ),
            Self::Ipv6NotFirst => f.write_str(
                "IPv6 is left alone, because the pod's first address is IPv4: --dual-stack redirects it",
            ),
            Self::NotListening {
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
                    "no socket listens at {protocol} port {port} ({option}) in the pod's network namespace yet: until the proxy does, redirected {redirected} are refused"
                )
            }
            Self::OtherNetns { named, pid } => write!(
                f,
                "--netns {named}: no process of the cgroup is in that network namespace, and process {pid} is in another: its connections are left alone"
            ),
            Self::NoProcess => f.write_str(
                "no process is in the cgroup: this shell's network namespace is used as the pod's, and connections from other namespaces are left alone: name the pod's namespace with --netns",
            ),
        }
    }
}

/// Checks a configuration against the addresses and interfaces of a network namespace.
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

/// Checks whether a socket listens at each port of the proxy. The proxy may start later.
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
                warnings.push(Warning::NotListening {
                    transport,
                    port,
                    option,
                });
            }
        }
        Ok(warnings)
    })
}

/// Checks whether the processes of a cgroup are in the named namespace.
#[must_use]
pub fn check_processes(cgroup: &Cgroup, named: Option<&NetnsRef>) -> Option<Warning> {
    let processes = cgroup.processes();
    let Some(named) = named else {
        return processes.is_empty().then_some(Warning::NoProcess);
    };
    let pid = *processes.first()?;
    let id = named.open().ok()?.id();
    let is_inside = |pid: u32| {
        NetnsRef::Pid(pid)
            .open()
            .is_ok_and(|netns| netns.id() == id)
    };
    (!processes.into_iter().any(is_inside)).then(|| Warning::OtherNetns {
        named: named.clone(),
        pid,
    })
}

/// Whether any outbound connection can be redirected.
const fn is_outbound(config: &RedirectConfig) -> bool {
    let nothing = matches!(&config.include, Include::Cidrs(nets) if nets.is_empty());
    !nothing || !config.include_ports.is_empty()
}
