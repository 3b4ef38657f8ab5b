//! Options of `istio-iptables` in descriptions, with errors of one line.

use clap::{Args as _, FromArgMatches as _};
use redirect_user::config::{ConfigError, Environment, Flags, Names, Resolved, resolve};

/// Parses words as `redirectctl` does. The error names the word.
pub(super) fn flags(words: &[String]) -> Result<Flags, String> {
    let command = clap::Command::new("args")
        .no_binary_name(true)
        .disable_help_flag(true);
    Flags::augment_args(command)
        .try_get_matches_from(words)
        .and_then(|matches| Flags::from_arg_matches(&matches))
        .map_err(|error| first_line(&error.render()))
}

/// The first line of an error; the other lines show its place.
pub(super) fn first_line(error: &impl ToString) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.trim_start_matches("error: ").to_owned()
}

/// All problems, in one line.
pub(super) fn one_line(error: &ConfigError) -> String {
    let problems: Vec<_> = error.problems.iter().map(ToString::to_string).collect();
    problems.join("; ")
}

/// Resolves flags to a configuration. The agent's environment has no influence, and user names are not looked
/// up on the node.
pub(super) fn resolved(flags: &Flags, groups: &impl Names) -> Result<Resolved, ConfigError> {
    let no_names = |_: &str| None;
    resolve(flags, &Environment::default(), &no_names, groups)
}
