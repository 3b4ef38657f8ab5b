//! `redirectctl parity`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use redirect_common::{
    abi::{PolicyRow, RowFlags},
    facts::PolicyView,
};
use redirect_iptables::{
    netfilter::{Ruleset, parse},
    parity::{Comparison, LiveRules, Site, compare, live_rules, policy_decision, probes},
    rules::{Family, restore},
};
use redirect_user::{
    bpf::LiveView,
    config::{Flags, RedirectConfig},
    node::{Reader, ShadowFindings},
    policy::{CompiledView, PodNetwork, compile},
    sys::netns::{NetnsRef, NetnsSnapshot},
};

use super::{
    Context,
    import::read_rules,
    parity_report::Report,
    target::{CgroupArg, NetnsArg, pod_or_options},
};

/// The arguments.
#[derive(Args, Debug)]
#[command(after_help = "\
The policy is that of an attached pod with --cgroup, read off the live maps,
else that of the options, which are those of istio-iptables. The rules are those
of the pod's network namespace, by whichever backend has some, else those of
--rules and --ipv6.

Both sides are asked about the same connections: to both sides of every edge of
every range and port, as every user and group and those beside them, to every
local address, of both families, by TCP and UDP, outbound and inbound. Nothing
is sent and nothing is changed.

Exit status:
  0  equal
  1  not compared, the message says why
  3  something is decided differently
  4  nothing is, but some rules are not understood

Examples:
  redirectctl parity --cgroup /sys/fs/cgroup/my-pod
  redirectctl parity --pid 4321 -u 1337 -i '*' -b '*' -d 15090,15021,15020
  redirectctl parity --rules saved.rules --ipv6 saved6.rules -i '*'")]
pub(super) struct Parity {
    /// Folder of an attached pod's cgroup (version 2), instead of options
    #[arg(long, value_name = "PATH")]
    cgroup: Option<PathBuf>,
    #[command(flatten)]
    netns: NetnsArg,
    /// A process of the pod: the same as --netns pid:PID
    #[arg(long, value_name = "PID", conflicts_with = "netns")]
    pid: Option<u32>,
    /// Rules to compare with, as iptables-save prints them, instead of those of the namespace
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
    /// The same of ip6tables-save [default with --rules: there are none]
    #[arg(long, value_name = "FILE", requires = "rules")]
    ipv6: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
}

/// The two texts, and where they are from.
struct Theirs {
    v4: Ruleset,
    v6: Ruleset,
    from: Vec<String>,
}

/// The rules, what the comparison found, and what a shadow has.
type Sides = (Theirs, Comparison, Option<ShadowFindings>);

impl Parity {
    pub(super) fn run(mut self, context: &mut Context<'_>) -> Result<ExitCode> {
        if self.cgroup.is_some() && self.flags != Flags::default() {
            return Ok(context.env.usage(&pod_or_options("parity")));
        }
        if let Some(pid) = self.pid {
            self.netns.netns = Some(NetnsRef::Pid(pid));
        }
        let (theirs, compared, shadow) = match self.cgroup.take() {
            Some(cgroup) => self.of_pod(&CgroupArg { cgroup }, context)?,
            None => self.of_options(context)?,
        };
        let rules = [&theirs.v4, &theirs.v6];
        let report = Report::new(&compared, shadow, theirs.from, rules);
        context.warn(&report.warnings);
        context.print(&report, |_| report.text())?;
        Ok(report.exit_code())
    }

    /// An attached pod: what the programs would look up.
    fn of_pod(&self, cgroup: &CgroupArg, context: &mut Context<'_>) -> Result<Sides> {
        let reader: Reader = context.reader()?;
        let pod = cgroup.pod(&reader)?;
        let Some(name) = self.netns.find(&cgroup.open()?) else {
            bail!(
                "find the network namespace of cgroup \"{}\": no process is in it: name it with --netns",
                cgroup.cgroup.display()
            );
        };
        let netns = NetnsSnapshot::read(&name)?;
        if netns.cookie != pod.row.netns {
            bail!(
                "network namespace \"{name}\" is not the one that cgroup \"{}\" was attached with: \
                 name that one with --netns, or run `redirectctl update --netns`",
                cgroup.cgroup.display()
            );
        }
        let theirs = self.theirs(Some(&name))?;
        let config = reader.config(&pod)?;
        // Shadow mode leaves inbound connections alone, which is not what is to be compared.
        let inbound = RowFlags::NONE.or_if(!config.inbound.is_none(), RowFlags::INBOUND);
        let row = PolicyRow {
            flags: pod.row.flags.or(inbound),
            ..pod.row
        };
        let (view, site) = (LiveView::new(reader.maps(), &row), Site::new(netns));
        for addr in site.local_addresses().filter(|addr| !addr.is_loopback()) {
            if !view.local(addr.into()).is_own() {
                context.env.warn(&format!(
                    "{addr} is not known as the pod's own: it came after the attach: run `redirectctl update --keep`, or `redirectctl follow`"
                ));
            }
        }
        let compared = both(&theirs, &config, &site, &view)?;
        view.finish()?;
        Ok((theirs, compared, reader.shadow(&pod)?))
    }

    /// Options: what the maps would hold.
    fn of_options(&self, context: &mut Context<'_>) -> Result<Sides> {
        let resolved = context.resolve(&self.flags)?;
        context.warn(&resolved.warnings);
        let name = self.netns.netns.as_ref();
        let theirs = self.theirs(name)?;
        let [ours4, ours6] = rendered(&resolved.config)?;
        let site = match name {
            Some(name) => Site::new(NetnsSnapshot::read(name)?),
            None => Site::imagined(&[&theirs.v4, &theirs.v6, &ours4, &ours6]),
        };
        // Who gives rules of IPv6 says that it is on.
        let dual_stack = resolved.config.dual_stack || name.is_none() && self.ipv6.is_some();
        let interfaces = &resolved.config.exclude_interfaces;
        let place = PodNetwork::new(site.netns(), dual_stack, interfaces)?;
        let compiled = compile(&resolved.config, &place)?;
        let view = CompiledView::new(&compiled, site.netns());
        let compared = both(&theirs, &resolved.config, &site, &view)?;
        Ok((theirs, compared, None))
    }

    fn theirs(&self, netns: Option<&NetnsRef>) -> Result<Theirs> {
        match (&self.rules, netns) {
            (Some(file), _) => Ok(Theirs {
                v4: read_rules(file, Family::V4)?,
                v6: match &self.ipv6 {
                    Some(file) => read_rules(file, Family::V6)?,
                    None => Ruleset::empty(Family::V6),
                },
                from: [Some(file), self.ipv6.as_ref()]
                    .into_iter()
                    .flatten()
                    .map(|file| file.display().to_string())
                    .collect(),
            }),
            (None, Some(netns)) => {
                let LiveRules { v4, v6, programs } = live_rules(netns)?;
                let from = programs.into_iter().map(str::to_owned).collect();
                Ok(Theirs { v4, v6, from })
            }
            (None, None) => bail!(
                "compare with nothing: name a pod with --cgroup, --netns or --pid, or rules with --rules"
            ),
        }
    }
}

/// Asks both sides about the connections that both sides' rules give reason for.
fn both(
    theirs: &Theirs,
    config: &RedirectConfig,
    site: &Site,
    view: &impl PolicyView,
) -> Result<Comparison> {
    let [ours4, ours6] = rendered(config)?;
    let probes = probes(&[&ours4, &ours6, &theirs.v4, &theirs.v6], site)?;
    Ok(compare([&theirs.v4, &theirs.v6], site, &probes, |probe| {
        policy_decision(view, site, probe)
    }))
}

/// The rules that a configuration stands for, of IPv4 and IPv6.
fn rendered(config: &RedirectConfig) -> Result<[Ruleset; 2]> {
    let read = |family| parse(family, &restore(config, family)).context("read our own rules");
    Ok([read(Family::V4)?, read(Family::V6)?])
}
