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
    context::Context,
    import::read_rules,
    parity_report::Report,
    target::{CgroupArg, NetnsArg},
};

#[derive(Args, Debug)]
#[command(after_help = "\
With --cgroup, the policy is read from the live maps of an attached pod, else
it is made from the options, which are those of istio-iptables. The rules are
those of the pod's network namespace, by the one backend that has rules, or the
texts of --rules and --ipv6.

Both decide the same connections: at both sides of every edge of every range
and port, as every user and group and those beside them, to every local
address, of both families, by TCP and UDP, outbound and inbound. Nothing is
sent and nothing is changed.

Exit status:
  0  equal
  1  not compared: the message gives the reason
  3  at least one connection is decided differently
  4  no connection is, but some rules are not understood

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
    /// Output of iptables-save to compare with, instead of the rules of the namespace
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
    /// Output of ip6tables-save [default with --rules: no rules]
    #[arg(long, value_name = "FILE", requires = "rules")]
    ipv6: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
}

/// The rules of both families, and the files or programs that they come from.
struct PodRules {
    v4: Ruleset,
    v6: Ruleset,
    from: Vec<String>,
}

/// The rules, the comparison with them, and the findings of shadow mode.
type Outcome = (PodRules, Comparison, Option<ShadowFindings>);

impl Parity {
    pub(super) fn run(mut self, context: &mut Context<'_>) -> Result<ExitCode> {
        if self.cgroup.is_some() && self.flags != Flags::default() {
            let error = context.pod_or_options("parity");
            return Ok(context.env.usage(&error));
        }
        if let Some(pid) = self.pid {
            self.netns.netns = Some(NetnsRef::Pid(pid));
        }
        let (rules, comparison, shadow) = match self.cgroup.take() {
            Some(cgroup) => self.compare_pod(&CgroupArg { cgroup }, context)?,
            None => self.compare_options(context)?,
        };
        let report = Report::new(&comparison, shadow, rules.from, [&rules.v4, &rules.v6]);
        context.warn(&report.warnings);
        context.print(&report, |_| report.text())?;
        Ok(report.exit_code())
    }

    /// Compares the policy of an attached pod, read from the live maps.
    fn compare_pod(&self, cgroup: &CgroupArg, context: &mut Context<'_>) -> Result<Outcome> {
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
                "compare with network namespace \"{name}\": cgroup \"{}\" was attached with another one: \
                 name that one with --netns, or run `redirectctl update --netns`",
                cgroup.cgroup.display()
            );
        }
        let rules = self.pod_rules(Some(&name))?;
        let config = reader.config(&pod)?;
        // Shadow mode leaves inbound connections alone; the comparison is about the mode without it.
        let inbound = RowFlags::NONE.or_if(!config.inbound.is_none(), RowFlags::INBOUND);
        let row = PolicyRow {
            flags: pod.row.flags.or(inbound),
            ..pod.row
        };
        let (view, site) = (LiveView::new(reader.maps(), &row), Site::new(netns));
        for addr in site.local_addresses().filter(|addr| !addr.is_loopback()) {
            if !view.local(addr.into()).is_local() {
                context.env.warn(&format!(
                    "{addr} is not known as an address of the pod: it came after the attach: run `redirectctl update --keep`, or `redirectctl follow`"
                ));
            }
        }
        let comparison = compare_rules(&rules, &config, &site, &view)?;
        view.finish()?;
        Ok((rules, comparison, reader.shadow(&pod)?))
    }

    /// Compares the policy that the options compile to.
    fn compare_options(&self, context: &mut Context<'_>) -> Result<Outcome> {
        let resolved = context.resolve(&self.flags)?;
        context.warn(&resolved.warnings);
        let name = self.netns.netns.as_ref();
        let rules = self.pod_rules(name)?;
        let [ours4, ours6] = rendered(&resolved.config)?;
        let site = match name {
            Some(name) => Site::new(NetnsSnapshot::read(name)?),
            None => Site::imagined(&[&rules.v4, &rules.v6, &ours4, &ours6]),
        };
        // A text for IPv6 means that IPv6 is on.
        let dual_stack = resolved.config.dual_stack || name.is_none() && self.ipv6.is_some();
        let interfaces = &resolved.config.exclude_interfaces;
        let network = PodNetwork::new(site.netns(), dual_stack, interfaces)?;
        let compiled = compile(&resolved.config, &network)?;
        let view = CompiledView::new(&compiled, site.netns());
        let comparison = compare_rules(&rules, &resolved.config, &site, &view)?;
        Ok((rules, comparison, None))
    }

    fn pod_rules(&self, netns: Option<&NetnsRef>) -> Result<PodRules> {
        match (&self.rules, netns) {
            (Some(file), _) => Ok(PodRules {
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
                Ok(PodRules { v4, v6, from })
            }
            (None, None) => bail!(
                "compare with rules: none are named: name a pod with --cgroup, --netns or --pid, or a text with --rules"
            ),
        }
    }
}

/// Compares a policy with the rules of a pod. The probes come from these rules, and from the rules that the policy's
/// configuration is rendered as.
fn compare_rules(
    rules: &PodRules,
    config: &RedirectConfig,
    site: &Site,
    view: &impl PolicyView,
) -> Result<Comparison> {
    let [ours4, ours6] = rendered(config)?;
    let probes = probes(&[&ours4, &ours6, &rules.v4, &rules.v6], site)?;
    Ok(compare([&rules.v4, &rules.v6], site, &probes, |probe| {
        policy_decision(view, site, probe)
    }))
}

/// The rules of IPv4 and IPv6 that a configuration is rendered as.
fn rendered(config: &RedirectConfig) -> Result<[Ruleset; 2]> {
    let read = |family| parse(family, &restore(config, family)).context("read rendered rules");
    Ok([read(Family::V4)?, read(Family::V6)?])
}
