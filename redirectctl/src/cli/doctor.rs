//! `redirectctl doctor`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use redirect_common::hooks::FLOOR;
use redirect_user::{
    bpf::features::{Availability, all_present, hints, probes},
    console::Screen,
};
use serde::Serialize;

use super::context::Context;

#[derive(Args, Debug)]
#[command(after_help = "\
The checks load the programs into the kernel and unload them again, instead of
comparing its version. Nothing is attached, pinned or mounted. Redirection
needs neither iptables nor nftables nor conntrack. Without root, some checks
have the result \"unknown\", with the reason.

Exit status:
  0  everything required is there
  1  something required is missing or unknown

Examples:
  redirectctl doctor
  redirectctl doctor --verbose
  redirectctl doctor --output json")]
pub(super) struct Doctor {
    /// List every map and program, with its details
    #[arg(long, short)]
    verbose: bool,
}

#[derive(Serialize)]
struct Report {
    ok: bool,
    floor: String,
    checks: Vec<Check>,
    hints: Vec<String>,
}

#[derive(Serialize)]
struct Check {
    #[serde(rename = "check")]
    name: String,
    result: &'static str,
    detail: Option<String>,
    remedy: Option<String>,
    needed_for: &'static str,
    since: Option<String>,
    required: bool,
}

impl Doctor {
    pub(super) fn run(self, context: &mut Context<'_>) -> Result<ExitCode> {
        let Self { verbose } = self;
        let results: Vec<_> = probes(&context.state_dir)
            .into_iter()
            .map(|probe| (probe.run(), probe))
            .collect();
        let ok = all_present(results.iter().map(|(outcome, probe)| (probe, outcome)));
        let checks = results.into_iter().map(|(outcome, probe)| {
            let result = outcome.name();
            let (detail, remedy) = match outcome {
                Availability::Present(detail) => ((!detail.is_empty()).then_some(detail), None),
                Availability::Missing { reason, remedy } => (Some(reason), Some(remedy)),
                Availability::Unknown(reason) => (Some(reason), None),
            };
            Check {
                name: probe.name,
                result,
                detail,
                remedy,
                needed_for: probe.needed_for,
                since: probe.since.map(|version| version.to_string()),
                required: probe.required,
            }
        });
        let report = Report {
            ok,
            floor: FLOOR.to_string(),
            checks: checks.collect(),
            hints: hints(),
        };
        context.print(&report, |screen| report.text(screen, verbose))?;
        Ok(if ok {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

impl Report {
    fn text(&self, screen: Screen, verbose: bool) -> String {
        let rows = if verbose {
            self.checks.iter().map(Check::row).collect()
        } else {
            self.summary()
        };
        let table = screen.table(["CHECK", "RESULT", "SINCE", "NEEDED FOR"], rows);
        let problems = self.problems(screen);
        let hints = self.hints.iter().map(|hint| ("hint", hint.clone()));
        let hints = screen.fields(hints);
        let end = if self.ok {
            "everything required is there\n".to_owned()
        } else {
            let count = |result| {
                self.checks
                    .iter()
                    .filter(|check| check.required && check.result == result)
                    .count()
            };
            format!(
                "not ready: {} missing, {} unknown\n",
                count("missing"),
                count("unknown")
            )
        };
        let gap = |text: &str| {
            if text.is_empty() {
                String::new()
            } else {
                format!("\n{text}")
            }
        };
        format!("{table}{}{}\n{end}", gap(&problems), gap(&hints))
    }
}

impl Report {
    /// The checks; those of maps and programs that passed are summed up in one row each.
    fn summary(&self) -> Vec<[String; 4]> {
        let is_counted = |check: &&Check| KINDS.iter().any(|(kind, ..)| check.passed_of(kind));
        let listed = self.checks.iter().filter(|check| !is_counted(check));
        let counted = KINDS.iter().filter_map(|&(kind, plural, needed_for)| {
            let passed = self.checks.iter().filter(|check| check.passed_of(kind));
            let count = passed.count();
            (count > 0).then(|| {
                let cells = [&format!("{count} {plural}"), "present", "-", needed_for];
                cells.map(str::to_owned)
            })
        });
        listed.map(Check::row).chain(counted).collect()
    }

    /// The checks that are missing or unknown, with the reasons. Checks with the same reason share the lines.
    fn problems(&self, screen: Screen) -> String {
        let problems = self.checks.iter().filter(|check| check.result != "present");
        let mut groups: Vec<(&Check, Vec<&str>)> = Vec::new();
        for check in problems {
            let same = |other: &Check| {
                (&other.detail, &other.remedy, other.result)
                    == (&check.detail, &check.remedy, check.result)
            };
            match groups.iter_mut().find(|(other, _)| same(other)) {
                Some((_, names)) => names.push(&check.name),
                None => groups.push((check, vec![&check.name])),
            }
        }
        groups
            .into_iter()
            .fold(String::new(), |text, (check, names)| {
                let details = [("why", &check.detail), ("remedy", &check.remedy)];
                let details = details
                    .into_iter()
                    .filter_map(|(name, detail)| Some((name, detail.clone()?)));
                text + &screen.fields(
                    [(check.result, names.join(", "))]
                        .into_iter()
                        .chain(details),
                )
            })
    }
}

/// The kinds of checks that are summed up: the beginning of their names, the plural, and the use.
const KINDS: [(&str, &str, &str); 2] = [
    (
        "map ",
        "maps",
        "policies, original destinations, counters (-v lists them)",
    ),
    (
        "program ",
        "programs",
        "redirect, and answer the proxy (-v lists them)",
    ),
];

impl Check {
    /// Whether the check belongs to a kind, by the beginning of its name, and passed.
    fn passed_of(&self, kind: &str) -> bool {
        self.name.starts_with(kind) && self.result == "present"
    }

    fn row(&self) -> [String; 4] {
        let is_present = self.result == "present";
        let result = if self.required || is_present {
            self.result.to_owned()
        } else {
            format!("{} (not required)", self.result)
        };
        // Why a check did not pass has lines of its own, below the table.
        let needed_for = match &self.detail {
            Some(detail) if is_present => format!("{} ({detail})", self.needed_for),
            _ => self.needed_for.to_owned(),
        };
        let since = self.since.clone().unwrap_or_else(|| "-".to_owned());
        [self.name.clone(), result, since, needed_for]
    }
}
