//! What `attach` and `update` are given alike: a pod and options, and what is said of both.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use redirect_common::{facts::Transport, net::BePort};
use redirect_user::{
    config::{Flags, Include, RedirectConfig, Resolved, resolve},
    node::find_resolvers,
    policy::has_ipv6,
    sys::{
        cgroup::Cgroup,
        listeners,
        netns::{Netns, NetnsRef},
    },
};
use serde::Serialize;

use super::{
    Context,
    target::{CgroupArg, NetnsArg},
};

/// The options.
#[derive(Args, Debug)]
pub(super) struct PodOptions {
    #[command(flatten)]
    pub(super) cgroup: CgroupArg,
    #[command(flatten)]
    pub(super) netns: NetnsArg,
    /// Rehearse: decide and count, but redirect nothing. `redirectctl status` compares with where
    /// the connections really went, such as through the pod's iptables rules
    #[arg(long)]
    shadow: bool,
    #[command(flatten)]
    flags: Flags,
}

/// What they ask for.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) cgroup: Cgroup,
    pub(super) config: RedirectConfig,
    /// What is allowed, but may not be what was meant.
    warnings: Vec<String>,
}

impl PodOptions {
    /// What the command line and the environment say; nothing is looked at but the cgroup.
    pub(super) fn read(&self, context: &Context<'_>) -> Result<Wanted> {
        let cgroup = self.cgroup.open()?;
        let Resolved {
            mut config,
            mut warnings,
        } = context.resolve(&self.flags)?;
        config.shadow = self.shadow;
        if self.shadow && !config.inbound.is_none() {
            warnings.push("--shadow: only outbound connections are rehearsed: inbound ones are translated before any hook sees them".to_owned());
        }
        Ok(Wanted {
            cgroup,
            config,
            warnings,
        })
    }

    /// The pod's network namespace, or another one if it has no process, and what the pod's files
    /// and namespace say to what is wanted.
    pub(super) fn look(
        &self,
        wanted: &mut Wanted,
        otherwise: Option<NetnsRef>,
    ) -> Result<Option<(NetnsRef, Netns)>> {
        let Wanted {
            cgroup,
            config,
            warnings,
        } = wanted;
        warnings.extend(find_resolvers(config, self.netns.asker(cgroup))?);
        let Some(name) = self.netns.find(cgroup).or(otherwise) else {
            return Ok(None);
        };
        let netns = Netns::read(&name)?;
        warnings.extend(cautions(config, &netns));
        warnings.extend(unserved(config, &name)?);
        warnings.extend(self.netns.doubt(cgroup));
        Ok(Some((name, netns)))
    }
}

/// What was done, as JSON.
#[derive(Serialize)]
struct Applied {
    cgroup: PathBuf,
    cgroup_id: u64,
    netns: String,
    config: RedirectConfig,
    warnings: Vec<String>,
}

impl Context<'_> {
    /// The configuration that options and environment give.
    pub(super) fn resolve(&self, flags: &Flags) -> Result<Resolved> {
        Ok(resolve(
            flags,
            &self.env.variables,
            &self.env.users,
            &self.env.groups,
        )?)
    }

    /// Prints what was done, and first what to be aware of.
    pub(super) fn applied(&mut self, verb: &str, wanted: Wanted, netns: String) -> Result<()> {
        let Wanted {
            cgroup,
            config,
            warnings,
        } = wanted;
        self.warn(&warnings);
        let applied = Applied {
            cgroup: cgroup.path().to_owned(),
            cgroup_id: cgroup.id(),
            netns,
            config,
            warnings,
        };
        self.print(&applied, || {
            format!(
                "{verb} \"{}\" (network namespace: {})\n",
                applied.cgroup.display(),
                applied.netns
            )
        })
    }

    /// Says what a person should be aware of.
    pub(super) fn warn(&mut self, warnings: &[String]) {
        for warning in warnings {
            self.env.note(&format!("warning: {warning}"));
        }
    }
}

/// What a namespace says to a configuration that may not be what was meant.
pub(super) fn cautions(config: &RedirectConfig, netns: &Netns) -> Vec<String> {
    let mut cautions = Vec::new();
    if !is_outbound(config) {
        cautions.push("nothing outbound is redirected: neither -i nor -q is given (-i '*' redirects everything)".to_owned());
    }
    for name in &config.exclude_interfaces {
        let mut interfaces = netns.routing.interfaces.iter();
        if !interfaces.any(|interface| name.matches(&interface.name)) {
            cautions.push(format!("-c \"{name}\": the network namespace has no such interface, so that nothing is left alone by this name: run `redirectctl update` when it has, or `redirectctl follow`"));
        }
    }
    match has_ipv6(&netns.addresses, config.dual_stack) {
        None => cautions.push("IPv6 is left alone: the network namespace has no address yet that says whether there is any; run `redirectctl update` when it has".to_owned()),
        Some(false) if has_ipv6(&netns.addresses, true) == Some(true) => {
            cautions.push("IPv6 is left alone, because the pod's first address is IPv4: --dual-stack redirects it".to_owned());
        }
        Some(_) => {}
    }
    cautions
}

/// Whether any outbound connection may be redirected.
const fn is_outbound(config: &RedirectConfig) -> bool {
    let nothing = matches!(&config.include, Include::Cidrs(nets) if nets.is_empty());
    !nothing || !config.include_ports.is_empty()
}

/// Ports of the proxy at which nobody listens in the pod's namespace. It may start later.
fn unserved(config: &RedirectConfig, netns: &NetnsRef) -> Result<Vec<String>> {
    if config.shadow {
        return Ok(Vec::new());
    }
    let (dns, dns_port) = (config.dns.is_on(), BePort::DNS_PROXY.get());
    let ports = [
        (is_outbound(config), Transport::Tcp, config.out_port, "-p"),
        (
            !config.inbound.is_none(),
            Transport::Tcp,
            config.in_port,
            "-z",
        ),
        (dns, Transport::Tcp, dns_port, "--redirect-dns"),
        (dns, Transport::Udp, dns_port, "--redirect-dns"),
    ];
    let unserved = move || {
        let mut unserved = Vec::new();
        for (is_used, transport, port, option) in ports {
            if is_used && !listeners::is_served(transport, port)? {
                let (protocol, what) = match transport {
                    Transport::Tcp => ("TCP", "connections"),
                    Transport::Udp => ("UDP", "queries"),
                };
                unserved.push(format!("nobody listens at {protocol} port {port} ({option}) in the pod's network namespace yet: until the proxy does, redirected {what} are refused"));
            }
        }
        Ok(unserved)
    };
    netns.open()?.inside(unserved)
}
