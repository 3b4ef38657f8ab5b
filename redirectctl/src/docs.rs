//! The generated blocks of the documentation: tables between markers in `README.md` and `docs/`. They are read off the
//! code, so that they cannot contradict it.
//!
//! ```text
//! <!-- generated: NAME -->
//! …
//! <!-- end of NAME -->
//! ```
//!
//! The example `docs` writes them (`cargo xtask docs`), and `tests/docs.rs` checks them.

use redirect_common::{
    chain::{INBOUND, OUTPUT, RuleId},
    facts::{Fact, Facts},
    hooks::{FLOOR, Hook},
};
use redirect_user::config::{NOTICES, Opt, REFUSALS, Reason, When};

use crate::{cli, kernels};

/// The command that writes the blocks.
pub const REGENERATE: &str = "cargo xtask docs";

/// A block, by name.
pub type Block = (&'static str, fn() -> String);

/// All blocks.
pub const BLOCKS: [Block; 7] = [
    ("rules", rules),
    ("hooks", hooks),
    ("commands", commands),
    ("kernels", kernel_sizes),
    ("skipped tests", skipped_tests),
    ("refused options", refused),
    ("options without effect", without_effect),
];

/// Writes every block anew for which the text has markers.
pub fn refresh(text: &str) -> String {
    BLOCKS
        .into_iter()
        .fold(text.to_owned(), |text, (name, block)| {
            let (open, close) = markers(name);
            let parts = text
                .split_once(&open)
                .and_then(|(before, rest)| Some((before, rest.split_once(&close)?.1)));
            match parts {
                Some((before, after)) => format!("{before}{open}\n{}{close}{after}", block()),
                None => text,
            }
        })
}

/// The markers before and after a block.
pub fn markers(name: &str) -> (String, String) {
    (
        format!("<!-- generated: {name} -->"),
        format!("<!-- end of {name} -->"),
    )
}

/// A Markdown table.
fn table<const N: usize>(head: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let head = line(&head.map(str::to_owned)) + &line(&[const { "---" }; N].map(str::to_owned));
    rows.into_iter().fold(head, |text, cells| {
        text + &line(&cells.map(|cell| cell.replace('|', "\\|")))
    })
}

fn code(text: &str) -> String {
    format!("`{text}`")
}

/// The rule table, in the order of the decision.
fn rules() -> String {
    let texts = |facts: Facts| facts.iter().map(Fact::text).collect::<Vec<_>>();
    let row = |(number, id): (usize, RuleId)| {
        let mut rules = OUTPUT.rules.iter().chain(&INBOUND.rules);
        let rule = rules.find(|rule| rule.id == id);
        let matches = rule.map_or_else(
            || "no rule above matched".to_owned(),
            |rule| {
                let when = texts(rule.when).join("; ");
                match texts(rule.unless).as_slice() {
                    [] => when,
                    unless => format!("{when} — unless {}", unless.join(", or ")),
                }
            },
        );
        let (stands_for, verdict) = (id.iptables(), id.verdict().name().to_owned());
        let stands_for = if stands_for.starts_with('(') {
            stands_for.to_owned()
        } else {
            code(stands_for)
        };
        [
            number.saturating_add(1).to_string(),
            code(id.name()),
            matches,
            verdict,
            stands_for,
        ]
    };
    let head = ["", "rule", "matches if", "verdict", "stands for"];
    let shown = RuleId::ALL.into_iter().filter(|id| !is_repeated(*id));
    table(head, shown.enumerate().map(row))
}

/// Whether a rule repeats the rule of the proxy's first user or group for another one.
fn is_repeated(id: RuleId) -> bool {
    ["-2", "-3", "-4"]
        .iter()
        .any(|end| id.name().ends_with(end))
}

/// The programs, and the first kernels with their hooks.
fn hooks() -> String {
    let row = |hook: Hook| {
        [
            code(hook.program()),
            hook.since().to_string(),
            hook.purpose().to_owned(),
        ]
    };
    let all = [
        "all of them".to_owned(),
        FLOOR.to_string(),
        "the oldest kernel that is tested ([kernels](kernels.md))".to_owned(),
    ];
    table(
        ["program", "hook since", "purpose"],
        Hook::ALL
            .into_iter()
            .chain([Hook::SkLookup])
            .map(row)
            .chain([all]),
    )
}

/// The sizes of the programs, and the tests, in other kernels.
fn kernel_sizes() -> String {
    let kernels = kernels::all();
    let mut head = [""; kernels::COLUMNS];
    for (slot, results) in head.iter_mut().skip(1).zip(&kernels) {
        *slot = results.release;
    }
    table(head, kernels::rows(&kernels))
}

/// The tests that were skipped in other kernels.
fn skipped_tests() -> String {
    table(
        ["test", "reason", "kernels"],
        kernels::skipped(&kernels::all()),
    )
}

/// The subcommands.
fn commands() -> String {
    let command = cli::command();
    // `log` exists only in builds for developers of the programs.
    let listed = command
        .get_subcommands()
        .filter(|sub| sub.get_name() != "log");
    let row = |sub: &clap::Command| {
        let about = sub.get_about().map(ToString::to_string).unwrap_or_default();
        [code(sub.get_name()), about]
    };
    table(["command", "purpose"], listed.map(row))
}

/// An option as typed on a command line.
fn name(option: Opt) -> String {
    let spec = option.spec();
    match (spec.short, spec.bound) {
        (Some(letter), _) => code(&format!("-{letter}, --{}", spec.long)),
        (None, redirect_user::config::Bound::Only(variable)) => code(variable),
        (None, _) => code(&format!("--{}", spec.long)),
    }
}

/// The values that a row is about.
fn values(when: When) -> String {
    match when {
        When::NotEmpty | When::Given => "any value".to_owned(),
        When::On => "on".to_owned(),
        When::Is(text) => code(text),
        When::MoreThan(most) => format!("more than {most} elements"),
    }
}

/// The options that are refused, with the reasons.
fn refused() -> String {
    let row = |row: &redirect_user::config::Refusal| {
        let state = match row.reason {
            Reason::NotYet => "not yet",
            Reason::Never => "never",
        };
        [
            name(row.option),
            values(row.when),
            state.to_owned(),
            row.text.to_owned(),
        ]
    };
    table(
        ["option", "refused value", "supported", "reason, and remedy"],
        REFUSALS.iter().map(row),
    )
}

/// The options that are accepted with a warning.
fn without_effect() -> String {
    let row = |row: &redirect_user::config::Notice| {
        [name(row.option), values(row.when), row.text.to_owned()]
    };
    table(["option", "value", "warning"], NOTICES.iter().map(row))
}
