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

use super::{
    Context,
    target::{CgroupArg, pod_or_options},
};

/// The arguments.
#[derive(Args, Debug)]
#[command(after_help = "\
The rules of an attached pod with --cgroup, else those of the options, which are
those of istio-iptables, with its environment variables. Nothing is installed. A
pod whose IPv6 is left alone has no IPv6 rules; those of options are shown as if
it were not.

In the chain, HITS counts connections since the attach by the rule's name: where
several lines have one name, the first shows the hits of all of them.

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
    /// What is printed
    #[arg(long, value_name = "FORMAT", default_value = "chain")]
    format: Style,
    /// IP version of the rules [default: both in the chain, 4 for iptables]
    #[arg(long, value_name = "FAMILY")]
    family: Option<Families>,
    /// List every range and port of the chain, however many
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    flags: Flags,
}

/// What is printed, unless it is JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Style {
    /// The rule table with values filled in, and with hit counts if it is a pod's
    Chain,
    /// What istio-iptables would give to iptables-restore, or to ip6tables-restore
    Iptables,
}

/// Which families are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Families {
    /// IPv4
    #[value(name = "4")]
    V4,
    /// IPv6
    #[value(name = "6")]
    V6,
    /// Both; of texts for restore, IPv4 comes first
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

/// Whose rules are asked for.
struct Source {
    cgroup: Option<(PathBuf, u64)>,
    config: RedirectConfig,
    hits: Option<Hits>,
    /// Whether IPv6 is on; of options nobody knows, and its rules are those if it is.
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
            return Ok(context.env.usage(&pod_or_options("rules")));
        }
        let source = match cgroup {
            Some(cgroup) => of_pod(CgroupArg { cgroup }, context)?,
            None => of_options(&flags, context)?,
        };
        let families = family.unwrap_or(match format {
            Style::Chain => Families::Both,
            Style::Iptables => Families::V4,
        });
        let rendered = source.render(families.list());
        context.warn(&rendered.warnings);
        context.print(&rendered, |screen| match format {
            Style::Chain => rendered.chain(screen, all),
            Style::Iptables => rendered.texts(),
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

fn of_options(flags: &Flags, context: &Context<'_>) -> Result<Source> {
    let Resolved { config, warnings } = context.resolve(flags)?;
    Ok(Source {
        cgroup: None,
        config,
        hits: None,
        ipv6: true,
        warnings,
    })
}

/// A pod's rules.
fn of_pod(cgroup: CgroupArg, context: &Context<'_>) -> Result<Source> {
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
            // Counted with the first of this name.
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

/// Adds the rules that matched before an update and have no line now: their hits are counted too.
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

    /// One row for each iptables rule, or for the first of them and the number of the others.
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

/// How many lines of a rule are shown before the rest is only counted.
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
