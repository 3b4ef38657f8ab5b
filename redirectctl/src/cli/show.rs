//! `redirectctl show`.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;
use redirect_common::{chain::RuleId, net::BePort};
use redirect_user::{
    config::{
        Dns, Inbound, InboundMode, InboundPorts, Include, OwnerGroups, PortRange, RedirectConfig,
    },
    console,
    node::Reader,
};
use serde::Serialize;

use super::{Context, target::CgroupArg};

/// The arguments.
#[derive(Args, Debug)]
#[command(after_help = "\
Rules are listed in the order they are tried; HITS counts connections since the attach.

Example:
  redirectctl show --cgroup /sys/fs/cgroup/my-pod")]
pub(super) struct Show {
    #[command(flatten)]
    cgroup: CgroupArg,
}

#[derive(Serialize)]
struct Shown {
    cgroup: PathBuf,
    cgroup_id: u64,
    policy: u32,
    netns_cookie: u64,
    ipv6: bool,
    config: RedirectConfig,
    rules: Vec<RuleHits>,
    flow_lost: u64,
    record_failed: u64,
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
        let cgroup = self.cgroup.open()?;
        let reader = context.reader()?;
        let pod = self.cgroup.pod(&reader)?;
        let hits = reader.hits(&pod)?;
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
            cgroup: cgroup.path().to_owned(),
            cgroup_id: pod.id,
            policy: pod.row.policy.0,
            netns_cookie: pod.row.netns,
            ipv6: !pod.row.flags.no_ipv6(),
            config: reader.config(&pod)?,
            rules: rules.collect(),
            flow_lost: hits.flow_lost,
            record_failed: hits.record_failed,
        };
        context.print(&shown, || shown.text())
    }
}

impl Context<'_> {
    /// The state, for a command that needs it to be there.
    pub(super) fn reader(&self) -> Result<Reader> {
        Reader::open(&self.owner)?.with_context(|| {
            format!(
                "open \"{}\": nothing is attached: see `redirectctl attach --help`",
                self.owner.display()
            )
        })
    }
}

impl Shown {
    const fn ipv6_text(&self) -> &'static str {
        match (self.ipv6, self.config.dual_stack) {
            (true, false) => "redirected",
            (true, true) => "redirected (--dual-stack)",
            (false, false) => "left alone (the first address is not IPv6)",
            (false, true) => "left alone (no address is IPv6)",
        }
    }

    fn text(&self) -> String {
        let config = &self.config;
        let included = match &config.include {
            Include::Any => "*".to_owned(),
            Include::Cidrs(nets) => list(nets.iter()),
        };
        let redirected = match &config.owner_groups {
            OwnerGroups::Any => "*".to_owned(),
            OwnerGroups::List(groups) => list(groups.iter()),
        };
        let options = [
            (
                "cgroup",
                format!("{} (id {})", self.cgroup.display(), self.cgroup_id),
            ),
            (
                "policy",
                format!(
                    "{} (network namespace cookie {})",
                    self.policy, self.netns_cookie
                ),
            ),
            ("IPv6", self.ipv6_text().to_owned()),
            ("outbound port (-p)", config.out_port.to_string()),
            ("inbound port (-z)", config.in_port.to_string()),
            ("tunnel port (-e)", config.tunnel_port.to_string()),
            ("proxy users (-u)", config.proxy_uids.to_string()),
            ("proxy groups (-g)", config.proxy_gids.to_string()),
            ("redirected groups", redirected),
            ("excluded groups", list(config.owner_groups_exclude.iter())),
            ("included ranges (-i)", included),
            ("excluded ranges (-x)", list(config.exclude.iter())),
            ("included ports (-q)", ports(&config.include_ports)),
            ("excluded ports (-o)", ports(&config.exclude_ports)),
            (
                "excl. interfaces (-c)",
                list(config.exclude_interfaces.iter()),
            ),
            ("mode", mode(config).to_owned()),
        ];
        let counters = [
            ("handshakes lost", self.flow_lost.to_string()),
            ("refused, no memory", self.record_failed.to_string()),
        ];
        let options = options
            .into_iter()
            .chain(inbound(&config.inbound))
            .chain([("DNS queries", dns(&config.dns))])
            .chain(counters)
            .fold(String::new(), |text, (name, value)| {
                format!("{text}{name:<22}{value}\n")
            });
        format!("{options}\n{}", self.table())
    }

    /// The rules and their hits.
    fn table(&self) -> String {
        console::table(
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

const fn mode(config: &RedirectConfig) -> &'static str {
    if config.shadow {
        "rehearsal (--shadow): nothing is redirected, see `redirectctl status`"
    } else {
        "redirecting"
    }
}

/// What is redirected inbound.
fn inbound(inbound: &Inbound) -> [(&'static str, String); 3] {
    let included = match &inbound.include_ports {
        InboundPorts::Any => "*".to_owned(),
        InboundPorts::List(included) => ports(included),
    };
    let mode = match inbound.mode {
        InboundMode::Redirect => "REDIRECT",
        InboundMode::Tproxy => "TPROXY",
    };
    [
        ("inbound mode (-m)", mode.to_owned()),
        ("inbound ports (-b)", included),
        ("not of those (-d)", ports(&inbound.exclude_ports)),
    ]
}

/// Which queries of resolvers are redirected.
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

/// How many entries are shown before the rest is only counted.
const SHOWN: usize = 8;

fn list<T: ToString>(items: impl ExactSizeIterator<Item = T>) -> String {
    let count = items.len();
    let mut texts: Vec<_> = items.take(SHOWN).map(|item| item.to_string()).collect();
    if count > SHOWN {
        texts.push(format!("… {count} in all (`redirectctl cidr list`)"));
    }
    if texts.is_empty() {
        "none".to_owned()
    } else {
        texts.join(" ")
    }
}

fn ports(ranges: &[PortRange]) -> String {
    list(ranges.iter())
}
