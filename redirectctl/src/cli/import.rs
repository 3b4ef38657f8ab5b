//! `redirectctl import`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use clap::Args;
use redirect_iptables::{
    import::{DifferenceKind, RuleDifference, differences, read_config},
    netfilter::{Ruleset, parse},
    rules::Family,
};
use redirect_user::config::RedirectConfig;
use serde::Serialize;

use super::{context::Context, input};

#[derive(Args, Debug)]
#[command(after_help = "\
The input is the output of iptables-save in an injected pod, by either backend,
with or without counters. The printed options are those of istio-iptables and
of `attach`. They are rendered as rules again and compared with the input.
Every rule that they do not express, or that they add, is named. A pod without
IPv6 has no rules in ip6tables: that is not a difference.

Exit status:
  0  the options are equal to the rules
  1  the input is not a sidecar's rules
  3  the options are printed, and differing rules are named

Examples:
  nsenter -t 4321 -n iptables-save | redirectctl import
  redirectctl import saved.rules --ipv6 saved6.rules")]
pub(super) struct Import {
    /// Output of iptables-save; - for standard input
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
    /// Output of ip6tables-save, maybe empty [default: not compared]
    #[arg(long, value_name = "FILE")]
    ipv6: Option<PathBuf>,
}

#[derive(Serialize)]
struct Imported {
    arguments: Vec<String>,
    command_line: String,
    config: RedirectConfig,
    differences: Vec<RuleDifference>,
    warnings: Vec<String>,
}

/// The warning if only the rules of IPv4 are given.
const NOT_GIVEN: &str = "only IPv4 rules were given, but the options are for both families: give \
                         the output of ip6tables-save with --ipv6";
/// The warning if IPv6 has no rules.
const NO_RULES: &str = "ip6tables has no rules, as in a pod without IPv6: the options redirect \
                        IPv6 only if the pod's first address is IPv6, or with --dual-stack";

/// The exit status if rules differ.
const DIFFERENT: u8 = 3;

impl Import {
    pub(super) fn run(self, context: &mut Context<'_>) -> Result<ExitCode> {
        let Self { file, ipv6 } = self;
        let v4 = read_rules(&file, Family::V4)?;
        let v6 = ipv6.map(|file| read_rules(&file, Family::V6)).transpose()?;
        let config = read_config(&v4, v6.as_ref()).context("import rules")?;
        let mut found = Vec::new();
        // A pod without IPv6 has no IPv6 rules, and its options render none there.
        let listed6 = v6.as_ref().filter(|rules| !rules.is_empty());
        for rules in [&v4].into_iter().chain(listed6) {
            found.extend(differences(rules, &config).context("compare with the options")?);
        }
        let arguments = config.arguments();
        let imported = Imported {
            command_line: command_line(&arguments),
            arguments,
            config,
            differences: found,
            warnings: match (&v6, listed6) {
                (None, _) => vec![NOT_GIVEN.to_owned()],
                (Some(_), None) => vec![NO_RULES.to_owned()],
                _ => Vec::new(),
            },
        };
        context.warn(&imported.warnings);
        for difference in &imported.differences {
            context.env.note(&text(difference));
        }
        context.print(&imported, |_| imported.command_line.clone() + "\n")?;
        Ok(if imported.differences.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(DIFFERENT)
        })
    }
}

/// Reads the rules in a file.
pub(super) fn read_rules(file: &Path, family: Family) -> Result<Ruleset> {
    let text = input::read(file)?;
    parse(family, &text).with_context(|| format!("read rules of {}", input::name(file)))
}

fn text(difference: &RuleDifference) -> String {
    let RuleDifference {
        kind,
        family,
        table,
        line,
        rule,
    } = difference;
    let line = line.map_or_else(String::new, |line| format!("line {line}: "));
    let kind = match kind {
        DifferenceKind::Unexpressed => "no option expresses",
        DifferenceKind::Added => "the options add",
        DifferenceKind::Moved => "the options put elsewhere",
    };
    format!("IPv{family}, table {table}: {line}{kind}: {rule}")
}

/// Words, quoted for a shell.
fn command_line(words: &[String]) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:,".contains(letter);
    let quoted = words.iter().map(|word| {
        if !word.is_empty() && word.chars().all(plain) {
            word.clone()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_the_same_words_back() {
        let words = ["-i", "*", "-x", "10.0.0.0/8,fd00::/8", "", "it's"];
        let words = words.map(str::to_owned);
        assert_eq!(
            command_line(&words),
            r"-i '*' -x 10.0.0.0/8,fd00::/8 '' 'it'\''s'"
        );
    }
}
