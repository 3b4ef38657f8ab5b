//! Options of `istio-iptables` as they stand in a description: words, and one line for what is wrong.

use clap::{Args as _, FromArgMatches as _};
use redirect_user::config::{ConfigError, Environment, Flags, Names, Resolved, resolve};

/// Words to flags, by the parser of `redirectctl`. The error names the word.
pub(super) fn flags(words: &[String]) -> Result<Flags, String> {
    let command = clap::Command::new("args")
        .no_binary_name(true)
        .disable_help_flag(true);
    Flags::augment_args(command)
        .try_get_matches_from(words)
        .and_then(|matches| Flags::from_arg_matches(&matches))
        .map_err(|error| first_line(&error.render()))
}

/// The first line of an error whose others are a picture of the place.
pub(super) fn first_line(error: &impl ToString) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.trim_start_matches("error: ").to_owned()
}

/// All that is wrong, in one line.
pub(super) fn one_line(error: &ConfigError) -> String {
    let problems: Vec<_> = error.problems.iter().map(ToString::to_string).collect();
    problems.join("; ")
}

/// Flags to a configuration. The agent's environment does not count, nor do the users that the node
/// happens to have.
pub(super) fn resolved(flags: &Flags, groups: &impl Names) -> Result<Resolved, ConfigError> {
    let nobody = |_: &str| None;
    resolve(flags, &Environment::default(), &nobody, groups)
}
