//! `redirectctl rules`.

use std::{collections::BTreeSet, path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Args, ValueEnum};
use redirect_common::{abi::Hits, chain::RuleId};
use redirect_iptables::rules::{Family, TableLine, TableRule, ipv6_off, restore, table};
use redirect_user::{
    config::{Flags, RedirectConfig, Resolved},
    console::Screen,
};
use serde::Serialize;

use super::{context::Context, target::CgroupArg};

#[derive(Args, Debug)]
#[command(after_help = "\
With --cgroup, the rules are those of an attached pod, else those of the
options, which are those of istio-iptables, with its environment variables.
Nothing is installed. A pod whose IPv6 is left alone has no IPv6 rules. For
options, IPv6 rules are always shown.

In the chain, HITS is the number of connections since the attach for each rule
name. If several lines have the same name, the first shows the hits of all.

Examples:
  redirectctl rules --cgroup /sys/fs/cgroup/my-pod
  redirectctl rules -u 1337 -i '*' -x 10.0.0.0/8 -b '*'
  redirectctl rules -i '*' -b '*' -d 15090,15021,15020 --format iptables
  redirectctl rules -i '*' --format iptables --family 6 |
    ip6tables-restore --noflush --test")]
pub(super) struct Rules {
    /// Folder of an attached pod's cgroup (version 2), in place of options
    #[arg(long, value_name = "PATH")]
    cgroup: Option<PathBuf>,
    /// Format of the rules
    #[arg(long, value_name = "FORMAT", default_value = "chain")]
    format: RulesFormat,
    /// IP version of the rules [default: both in the chain, 4 for iptables]
    #[arg(long, value_name = "FAMILY")]
    family: Option<Families>,
    /// List every range and port of the chain
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    flags: Flags,
}

/// The formats, besides JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum RulesFormat {
    /// The rule table with its values, and with hits for an attached pod
    Chain,
    /// The input of istio-iptables for iptables-restore or ip6tables-restore
    Iptables,
}

/// The chosen families.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Families {
    /// IPv4
    #[value(name = "4")]
    V4,
    /// IPv6
    #[value(name = "6")]
    V6,
    /// Both; in format iptables, IPv4 comes first
    Both,
}

impl Families {
    const fn list(self) -> &'static [Family] {
        match self {
            Self::V4 => &[Family::V4],
            Self::V6 => &[Family::V6],
            Self::Both => &Family::ALL,
        }
    }
}

#[derive(Serialize)]
struct Rendered {
    cgroup: Option<PathBuf>,
    cgroup_id: Option<u64>,
    rules: Vec<Listed>,
    restore: Vec<Restore>,
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct Listed {
    rule: &'static str,
    verdict: &'static str,
    hits: Option<u64>,
    lines: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    families: Vec<u8>,
    iptables: String,
}

#[derive(Serialize)]
struct Restore {
    family: u8,
    text: String,
}

/// A pod's configuration with its hits, or the configuration of options.
struct Source {
    cgroup: Option<(PathBuf, u64)>,
    config: RedirectConfig,
    hits: Option<Hits>,
    /// Whether IPv6 is on. For options it counts as on.
    ipv6: bool,
    warnings: Vec<String>,
}

impl Rules {
    pub(super) fn run(self, context: &mut Context<'_>) -> Result<ExitCode> {
        let Self {
            cgroup,
            format,
            family,
            all,
            flags,
        } = self;
        if cgroup.is_some() && flags != Flags::default() {
            let error = context.pod_or_options("rules");
            return Ok(context.env.usage(&error));
        }
        let source = match cgroup {
            Some(cgroup) => pod_source(CgroupArg { cgroup }, context)?,
            None => options_source(&flags, context)?,
        };
        let families = family.unwrap_or(match format {
            RulesFormat::Chain => Families::Both,
            RulesFormat::Iptables => Families::V4,
        });
        let rendered = source.render(families.list());
        context.warn(&rendered.warnings);
        context.print(&rendered, |screen| match format {
            RulesFormat::Chain => rendered.chain(screen, all),
            RulesFormat::Iptables => rendered.texts(),
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

fn options_source(flags: &Flags, context: &Context<'_>) -> Result<Source> {
    let Resolved { config, warnings } = context.resolve(flags)?;
    Ok(Source {
        cgroup: None,
        config,
        hits: None,
        ipv6: true,
        warnings,
    })
}

fn pod_source(cgroup: CgroupArg, context: &Context<'_>) -> Result<Source> {
    let id = cgroup.open()?.id();
    let reader = context.reader()?;
    let pod = cgroup.pod(&reader)?;
    Ok(Source {
        config: reader.config(&pod)?,
        hits: Some(reader.hits(&pod)?),
        cgroup: Some((cgroup.cgroup, id)),
        ipv6: !pod.row.flags.no_ipv6(),
        warnings: Vec::new(),
    })
}

impl Source {
    fn render(self, families: &[Family]) -> Rendered {
        let Self {
            cgroup,
            config,
            hits,
            ipv6,
            warnings,
        } = self;
        let on: Vec<_> = families
            .iter()
            .copied()
            .filter(|family| ipv6 || *family == Family::V4)
            .collect();
        let mut rules = table(&config, &on);
        if on != families {
            rules.insert(0, ipv6_off());
        }
        if let Some(hits) = &hits {
            add_former(&mut rules, hits, families);
        }
        rules.retain(|rule| !rule.lines.is_empty());
        let texts = on.iter().map(|&family| Restore {
            family: family.number(),
            text: restore(&config, family),
        });
        let (cgroup, cgroup_id) = cgroup.unzip();
        let mut rules: Vec<_> = rules
            .into_iter()
            .map(|rule| Listed::new(rule, hits.as_ref()))
            .collect();
        let mut named = BTreeSet::new();
        for rule in &mut rules {
            // The first rule of a name shows the hits of all.
            rule.hits = rule.hits.filter(|_| named.insert(rule.rule));
        }
        Rendered {
            cgroup,
            cgroup_id,
            rules,
            restore: texts.collect(),
            warnings,
        }
    }
}

/// Adds the rules that matched before an update and have no line now, so that their hits are shown, too.
fn add_former(rules: &mut Vec<TableRule>, hits: &Hits, families: &[Family]) {
    for id in RuleId::ALL {
        let has_lines = |rule: &TableRule| rule.id == id && !rule.lines.is_empty();
        if hits.of(id) == 0 || rules.iter().any(has_lines) {
            continue;
        }
        let former = TableRule {
            id,
            lines: vec![TableLine {
                families: families.to_vec(),
                text: "(before the last update)".to_owned(),
            }],
        };
        let at = rules
            .iter()
            .position(|rule| rule.id.index() > id.index())
            .unwrap_or(rules.len());
        rules.insert(at, former);
    }
}

impl Listed {
    fn new(rule: TableRule, hits: Option<&Hits>) -> Self {
        let TableRule { id, lines } = rule;
        let lines = lines.into_iter().map(|line| Line {
            families: line.families.iter().map(|family| family.number()).collect(),
            iptables: line.text,
        });
        Self {
            rule: id.name(),
            verdict: id.verdict().name(),
            hits: hits.map(|hits| hits.of(id)),
            lines: lines.collect(),
        }
    }

    /// One row for each iptables rule. Of a long list, the first rows and the number of all.
    fn rows(&self, all: bool) -> Vec<[String; 5]> {
        let shown = if all { self.lines.len() } else { SHOWN };
        let row = |first: bool, family: String, text: String| {
            let hits = self.hits.filter(|_| first);
            [
                hits.map_or_else(String::new, |hits| hits.to_string()),
                self.verdict.to_owned(),
                self.rule.to_owned(),
                family,
                text,
            ]
        };
        let mut rows: Vec<_> = self
            .lines
            .iter()
            .take(shown)
            .enumerate()
            .map(|(index, line)| row(index == 0, line.family(), line.iptables.clone()))
            .collect();
        let count = self.lines.len();
        if count > shown {
            rows.push(row(
                false,
                String::new(),
                format!("… {count} in all (--all)"),
            ));
        }
        rows
    }
}

/// The most lines of a rule that are shown without --all.
const SHOWN: usize = 8;

impl Line {
    fn family(&self) -> String {
        match self.families.as_slice() {
            [one] => one.to_string(),
            _ => "both".to_owned(),
        }
    }
}

impl Rendered {
    fn chain(&self, screen: Screen, all: bool) -> String {
        let rows = self.rules.iter().flat_map(|rule| rule.rows(all));
        if self.cgroup.is_some() {
            return screen.table(["HITS", "VERDICT", "RULE", "FAMILY", "IPTABLES"], rows);
        }
        let without_hits =
            rows.map(|[_, verdict, rule, family, text]| [verdict, rule, family, text]);
        screen.table(["VERDICT", "RULE", "FAMILY", "IPTABLES"], without_hits)
    }

    fn texts(&self) -> String {
        self.restore
            .iter()
            .map(|restore| restore.text.as_str())
            .collect()
    }
}
