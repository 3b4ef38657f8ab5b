//! `redirectctl attach`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::{
    Context,
    target::{CgroupArg, NetnsArg, ShadowArg},
};
use crate::{
    config::{Flags, Include, RedirectConfig, Resolved, resolve},
    node::{Writer, find_resolvers},
    policy::has_ipv6,
    sys::{capability, netns::Netns},
};

/// The arguments.
#[derive(Args, Debug)]
#[command(after_help = "\
The options are those of istio-iptables, with its letters, names, defaults and environment
variables; without -i and -q nothing is redirected.

Examples:
  redirectctl attach --cgroup /sys/fs/cgroup/my-pod -u 1337 -i '*' -b '*' -d 15090,15021,15020
  redirectctl attach --cgroup /sys/fs/cgroup/my-pod --netns /run/netns/my-pod -i 10.0.0.0/8
  redirectctl attach --cgroup /sys/fs/cgroup/my-pod --shadow -i '*'")]
pub(super) struct Attach {
    #[command(flatten)]
    cgroup: CgroupArg,
    #[command(flatten)]
    netns: NetnsArg,
    #[command(flatten)]
    shadow: ShadowArg,
    #[command(flatten)]
    flags: Flags,
}

/// What was done, as JSON.
#[derive(Serialize)]
pub(super) struct Applied {
    pub(super) cgroup: PathBuf,
    pub(super) cgroup_id: u64,
    pub(super) netns: String,
    pub(super) config: RedirectConfig,
    pub(super) warnings: Vec<String>,
}

impl Attach {
    pub(super) fn run(self, context: &mut Context<'_>) -> Result<()> {
        let cgroup = self.cgroup.open()?;
        let mut resolved = context.resolve(&self.flags)?;
        self.shadow.apply(&mut resolved);
        let Resolved {
            mut config,
            mut warnings,
        } = resolved;
        capability::require(&capability::NEEDED)?;
        let (name, netns) = self.netns.read(&cgroup)?;
        warnings.extend(find_resolvers(&mut config, self.netns.asker(&cgroup))?);
        warnings.extend(cautions(&config, &netns));
        warnings.extend(self.netns.doubt(&cgroup));
        Writer::open(&context.owner)?.attach(&cgroup, &netns, &config)?;
        let applied = Applied {
            cgroup: cgroup.path().to_owned(),
            cgroup_id: cgroup.id(),
            netns: name.to_string(),
            config,
            warnings,
        };
        context.applied("attached", &applied)
    }
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

    /// Prints what was done.
    pub(super) fn applied(&mut self, verb: &str, applied: &Applied) -> Result<()> {
        for warning in &applied.warnings {
            self.env.note(&format!("warning: {warning}"));
        }
        self.print(applied, || {
            format!(
                "{verb} \"{}\" (network namespace: {})\n",
                applied.cgroup.display(),
                applied.netns
            )
        })
    }
}

/// What is allowed, but may not be what was meant.
pub(super) fn cautions(config: &RedirectConfig, netns: &Netns) -> Vec<String> {
    let mut cautions = Vec::new();
    let nothing = matches!(&config.include, Include::Cidrs(nets) if nets.is_empty());
    if nothing && config.include_ports.is_empty() {
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
