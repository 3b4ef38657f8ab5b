//! The output of `redirectctl parity`.

use std::{net::IpAddr, process::ExitCode};

use redirect_common::chain::RuleId;
use redirect_iptables::{
    netfilter::{Ruleset, Verdict},
    parity::{Comparison, Difference, Direction, Probe, UndecidedRule},
};
use redirect_user::{console::counted, node::ShadowFindings};
use serde::Serialize;

/// The exit status if a connection is decided differently.
const DIFFERENT: u8 = 3;
/// The exit status if some rules are not understood.
const UNDECIDED: u8 = 4;

#[derive(Serialize)]
pub(super) struct Report {
    result: &'static str,
    probes: usize,
    rules: Vec<String>,
    differences: Vec<DifferenceReport>,
    undecided: Vec<UndecidedReport>,
    shadow: Option<ShadowFindings>,
    pub(super) warnings: Vec<String>,
}

#[derive(Serialize)]
struct DifferenceReport {
    connection: Connection,
    here: PolicySide,
    rules: RulesSide,
    probes: usize,
}

#[derive(Serialize)]
struct UndecidedReport {
    connection: Connection,
    family: u8,
    line: usize,
    rule: String,
    probes: usize,
}

#[derive(Serialize)]
struct Connection {
    text: String,
    direction: &'static str,
    protocol: &'static str,
    dst: IpAddr,
    port: u16,
    src: Option<IpAddr>,
    uid: Option<u32>,
    gid: Option<u32>,
    interface: Option<String>,
}

#[derive(Serialize)]
struct PolicySide {
    verdict: &'static str,
    port: Option<u16>,
    rule: Option<&'static str>,
}

#[derive(Serialize)]
struct RulesSide {
    verdict: &'static str,
    port: Option<u16>,
    family: u8,
    line: Option<usize>,
    rule: String,
}

impl Report {
    pub(super) fn new(
        comparison: &Comparison,
        shadow: Option<ShadowFindings>,
        from: Vec<String>,
        rules: [&Ruleset; 2],
    ) -> Self {
        let Comparison {
            probes,
            differences,
            undecided,
        } = comparison;
        Self {
            result: match (differences.as_slice(), undecided.as_slice()) {
                // Real connections have shown a difference that no probe has.
                _ if shadow.as_ref().is_some_and(|found| found.differed > 0) => "different",
                ([], []) => "equal",
                ([], _) => "undecided",
                _ => "different",
            },
            probes: *probes,
            rules: from,
            differences: differences.iter().map(DifferenceReport::new).collect(),
            undecided: undecided.iter().map(UndecidedReport::new).collect(),
            shadow,
            warnings: rules.into_iter().flat_map(not_walked).collect(),
        }
    }

    pub(super) fn exit_code(&self) -> ExitCode {
        match self.result {
            "equal" => ExitCode::SUCCESS,
            "undecided" => ExitCode::from(UNDECIDED),
            _ => ExitCode::from(DIFFERENT),
        }
    }

    pub(super) fn text(&self) -> String {
        let differences = self.differences.iter().map(DifferenceReport::text);
        let undecided = self.undecided.iter().map(UndecidedReport::text);
        let end = match self.result {
            "equal" => "equal".to_owned(),
            result => {
                let differences = counted(self.differences.len(), "difference");
                let rules = counted(self.undecided.len(), "rule");
                format!("{result}: {differences}, {rules} not understood")
            }
        };
        let lines: String = differences.chain(undecided).collect();
        let shadow = self.shadow.as_ref().map_or_else(String::new, |found| {
            format!(
                "shadow mode: {} agreed, {} differed, {} unknown (`redirectctl status` has more)\n",
                found.agreed, found.differed, found.unknown
            )
        });
        format!("{lines}{shadow}{end}, {} probes\n", self.probes)
    }
}

/// The built-in chains of the walks of first packets.
const WALKED: [&str; 2] = ["OUTPUT", "PREROUTING"];

/// Warnings about other built-in chains with rules: no probe is a packet that meets them.
fn not_walked(rules: &Ruleset) -> impl Iterator<Item = String> {
    let family = rules.family.number();
    rules.chains().filter_map(move |(table, chain)| {
        let is_walked = chain.policy.is_none() || WALKED.contains(&chain.name.as_str());
        let matters = !chain.rules.is_empty() || !chain.accepts();
        (matters && !is_walked).then(|| {
            let (chain, table) = (&chain.name, &table.name);
            format!("IPv{family} chain {chain} of table {table} is not compared")
        })
    })
}

impl Connection {
    fn new(probe: &Probe) -> Self {
        Self {
            text: probe.to_string(),
            direction: match probe.direction {
                Direction::Outbound => "outbound",
                Direction::Inbound => "inbound",
            },
            protocol: if probe.tcp { "tcp" } else { "udp" },
            dst: probe.to,
            port: probe.port,
            src: probe.from,
            uid: probe.owner.map(|(uid, _)| uid),
            gid: probe.owner.map(|(_, gid)| gid),
            interface: probe.via.name().map(str::to_owned),
        }
    }
}

impl DifferenceReport {
    fn new(difference: &Difference) -> Self {
        let Difference {
            witness,
            ours,
            verdict,
            family,
            line,
            rule,
            probes,
        } = difference;
        let (verdict, port) = named(*verdict);
        Self {
            connection: Connection::new(witness),
            here: PolicySide {
                verdict: ours.verdict.name(),
                port: ours.port,
                rule: ours.rule.map(RuleId::name),
            },
            rules: RulesSide {
                verdict,
                port,
                family: family.number(),
                line: (*line > 0).then_some(*line),
                rule: rule.clone(),
            },
            probes: *probes,
        }
    }

    fn text(&self) -> String {
        let port = |port: Option<u16>| port.map_or_else(String::new, |port| format!(" to {port}"));
        let (here, rules) = (&self.here, &self.rules);
        let line = rules
            .line
            .map_or_else(String::new, |line| format!("line {line}: "));
        format!(
            "{} {} ({})\n  here   {}{}: {}\n  rules  {}{}: {line}{}\n\n",
            self.connection.direction,
            self.connection.text,
            counted(self.probes, "probe"),
            here.verdict,
            port(here.port),
            here.rule.unwrap_or("(no hook sees it)"),
            rules.verdict,
            port(rules.port),
            rules.rule,
        )
    }
}

impl UndecidedReport {
    fn new(undecided: &UndecidedRule) -> Self {
        let UndecidedRule {
            witness,
            family,
            line,
            rule,
            probes,
        } = undecided;
        Self {
            connection: Connection::new(witness),
            family: family.number(),
            line: *line,
            rule: rule.clone(),
            probes: *probes,
        }
    }

    fn text(&self) -> String {
        format!(
            "{} {} ({})\n  rules  unknown: IPv{} line {} is not understood: {}\n\n",
            self.connection.direction,
            self.connection.text,
            counted(self.probes, "probe"),
            self.family,
            self.line,
            self.rule
        )
    }
}

/// The name of a verdict, and its port.
const fn named(verdict: Verdict) -> (&'static str, Option<u16>) {
    match verdict {
        Verdict::Direct => ("direct", None),
        Verdict::Redirect(port) => ("redirect", Some(port)),
        Verdict::Tproxy(port) => ("tproxy", Some(port)),
        Verdict::Drop => ("drop", None),
        Verdict::Unknown => ("unknown", None),
    }
}
