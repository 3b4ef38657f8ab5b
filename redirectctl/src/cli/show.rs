//! `redirectctl show`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use redirect_common::{chain::RuleId, net::BePort};
use redirect_user::{
    config::{Dns, Inbound, InboundMode, InboundPorts, Include, OwnerGroups, RedirectConfig},
    console::Screen,
    sys::cgroup,
};
use serde::Serialize;

use super::{
    context::Context,
    target::{self, CgroupArg},
};

#[derive(Args, Debug)]
#[command(after_help = "\
Rules are listed in the order of the decision. HITS is the number of
connections since the attach.

Example:
  redirectctl show --cgroup /sys/fs/cgroup/my-pod")]
pub(super) struct Show {
    #[command(flatten)]
    cgroup: CgroupArg,
}

#[derive(Serialize)]
struct Shown {
    cgroup: Option<PathBuf>,
    cgroup_id: u64,
    policy: u32,
    netns_cookie: u64,
    ipv6: bool,
    ipv6_reason: &'static str,
    config: RedirectConfig,
    rules: Vec<RuleHits>,
    lost: u64,
    refused: u64,
}

#[derive(Serialize)]
struct RuleHits {
    rule: &'static str,
    hits: u64,
    verdict: &'static str,
    iptables: &'static str,
}

impl Show {
    pub(super) fn run(self, context: &mut Context<'_>) -> Result<()> {
        let (pod, hits, config) = context.read(|reader| {
            let pod = self.cgroup.pod(reader)?;
            Ok((pod, reader.hits(&pod)?, reader.config(&pod)?))
        })?;
        let rules = RuleId::ALL
            .into_iter()
            .filter(|rule| pod.row.has_rule(*rule));
        let rules = rules.map(|rule| RuleHits {
            rule: rule.name(),
            hits: hits.of(rule),
            verdict: rule.verdict().name(),
            iptables: rule.iptables(),
        });
        let shown = Shown {
            cgroup: cgroup::find(&[pod.id])?.pop().flatten(),
            cgroup_id: pod.id,
            policy: pod.row.policy.0,
            netns_cookie: pod.row.netns,
            ipv6: !pod.row.flags.no_ipv6(),
            ipv6_reason: ipv6_reason(!pod.row.flags.no_ipv6(), config.dual_stack),
            config,
            rules: rules.collect(),
            lost: hits.flow_lost,
            refused: hits.record_failed,
        };
        context.print(&shown, |screen| shown.text(screen))
    }
}

impl Shown {
    fn text(&self, screen: Screen) -> String {
        let name = target::name(self.cgroup.as_deref(), self.cgroup_id);
        let ipv6 = if self.ipv6 {
            "redirected"
        } else {
            "left alone"
        };
        let ipv6 = format!("{ipv6}: {}", self.ipv6_reason);
        let fields = [("cgroup", name), ("mode", self.mode()), ("IPv6", ipv6)]
            .into_iter()
            .chain(outbound(&self.config))
            .chain(inbound(&self.config.inbound))
            .chain(self.counters());
        format!("{}\n{}", screen.fields(fields), self.table(screen))
    }

    fn mode(&self) -> String {
        let mode = if self.config.shadow {
            "shadow (--shadow): nothing is redirected, see `redirectctl status`"
        } else {
            "redirect"
        };
        mode.to_owned()
    }

    fn counters(&self) -> [(&'static str, String); 2] {
        let Self { lost, refused, .. } = self;
        let lost = format!("{lost} (came to the proxy without their original destination)");
        let refused = format!("{refused} (no memory for their original destination)");
        [("lost", lost), ("refused", refused)]
    }

    /// The rules and their hits.
    fn table(&self, screen: Screen) -> String {
        screen.table(
            ["RULE", "HITS", "VERDICT", "STANDS FOR"],
            self.rules.iter().map(|rule| {
                [
                    rule.rule.to_owned(),
                    rule.hits.to_string(),
                    rule.verdict.to_owned(),
                    rule.iptables.to_owned(),
                ]
            }),
        )
    }
}

/// The outbound options.
fn outbound(config: &RedirectConfig) -> [(&'static str, String); 12] {
    let included = match &config.include {
        Include::Any => "*, every destination".to_owned(),
        Include::Cidrs(nets) => list(nets.iter()),
    };
    let interfaces = list(config.exclude_interfaces.iter());
    [
        ("proxy users (-u)", config.proxy_uids.to_string()),
        ("proxy groups (-g)", config.proxy_gids.to_string()),
        ("included ranges (-i)", included),
        ("excluded ranges (-x)", list(config.exclude.iter())),
        ("included ports (-q)", list(config.include_ports.iter())),
        ("excluded ports (-o)", list(config.exclude_ports.iter())),
        ("excl. interfaces (-c)", interfaces),
        ("owner groups", owner_groups(config)),
        ("DNS queries", dns(&config.dns)),
        ("outbound port (-p)", config.out_port.to_string()),
        ("inbound port (-z)", config.in_port.to_string()),
        ("tunnel port (-e)", config.tunnel_port.to_string()),
    ]
}

/// The reason why IPv6 is redirected or left alone.
const fn ipv6_reason(is_on: bool, dual_stack: bool) -> &'static str {
    match (is_on, dual_stack) {
        (true, false) => "the pod's first address is IPv6",
        (true, true) => "an address of the pod is IPv6 (--dual-stack)",
        (false, false) => "the pod's first address is not IPv6 (--dual-stack reads all addresses)",
        (false, true) => "no address of the pod is IPv6",
    }
}

/// The groups whose connections are redirected.
fn owner_groups(config: &RedirectConfig) -> String {
    match &config.owner_groups {
        OwnerGroups::List(groups) => format!("only {}", list(groups.iter())),
        OwnerGroups::Any if config.owner_groups_exclude.is_empty() => "all".to_owned(),
        OwnerGroups::Any => format!("all but {}", list(config.owner_groups_exclude.iter())),
    }
}

/// The inbound ports that are redirected.
fn inbound(inbound: &Inbound) -> [(&'static str, String); 2] {
    let mode = match inbound.mode {
        InboundMode::Redirect => "REDIRECT",
        InboundMode::Tproxy => "TPROXY",
    };
    let ports = match &inbound.include_ports {
        InboundPorts::Any if inbound.exclude_ports.is_empty() => "all".to_owned(),
        InboundPorts::Any => format!("all but {} (-d)", list(inbound.exclude_ports.iter())),
        InboundPorts::List(included) => list(included.iter()),
    };
    [
        ("inbound ports (-b)", ports),
        ("inbound mode (-m)", mode.to_owned()),
    ]
}

/// The DNS queries that are redirected.
fn dns(dns: &Dns) -> String {
    let port = BePort::DNS_PROXY.get();
    if !dns.is_on() {
        "left alone".to_owned()
    } else if dns.capture_all {
        format!("to port {port}, of any resolver (--capture-all-dns)")
    } else {
        format!("to port {port}, of {}", list(dns.servers.iter()))
    }
}

/// The most entries of a list that are shown.
const SHOWN: usize = 8;

fn list<T: ToString>(items: impl ExactSizeIterator<Item = T>) -> String {
    let count = items.len();
    let mut texts: Vec<_> = items.take(SHOWN).map(|item| item.to_string()).collect();
    if count > SHOWN {
        texts.push(format!(
            "… {count} in all (`redirectctl show --output json`)"
        ));
    }
    if texts.is_empty() {
        "none".to_owned()
    } else {
        texts.join(" ")
    }
}
