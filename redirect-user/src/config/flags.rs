//! The flags of `istio-iptables`, with the same letters and names.
//!
//! The values stay text here: [`super::resolve()`] parses them together with the environment, so that
//! both have the same syntax and the same messages. As with Go's flags, a switch is written
//! `--flag` or `--flag=false`, and the last of several flags wins.

use std::collections::BTreeMap;

use clap::{
    Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches,
    builder::{StringValueParser, TypedValueParser as _},
};

use super::{
    boolean::{bool_text, parse_bool},
    environment::Environment,
    option::{Bound, Group, Kind, Opt},
};

/// The texts of the options that are set by flags. The text of a switch is `true` or `false`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags(BTreeMap<Opt, String>);

impl Flags {
    /// The text of an option, if its flag is set.
    #[must_use]
    pub fn get(&self, option: Opt) -> Option<&str> {
        self.0.get(&option).map(String::as_str)
    }

    /// Whether no flag is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sets the text of an option, and replaces an earlier one.
    pub fn set(&mut self, option: Opt, text: impl Into<String>) {
        self.0.insert(option, text.into());
    }

    /// Turns a switch on or off.
    pub fn switch(&mut self, option: Opt, is_on: bool) {
        self.set(option, bool_text(is_on));
    }

    /// Sets the text of an option unless the option has one.
    pub fn set_default(&mut self, option: Opt, text: impl Into<String>) {
        self.0.entry(option).or_insert_with(|| text.into());
    }

    /// Sets the options that neither a flag nor a variable sets to their texts in `kept`.
    pub fn keep(&mut self, kept: &Self, environment: &Environment) {
        for (option, text) in &kept.0 {
            let mut variables = option.variables().into_iter();
            if !variables.any(|name| environment.get(&name).is_some()) {
                self.set_default(*option, text);
            }
        }
    }
}

impl<S: Into<String>> FromIterator<(Opt, S)> for Flags {
    fn from_iter<I: IntoIterator<Item = (Opt, S)>>(iter: I) -> Self {
        let texts = iter.into_iter();
        Self(texts.map(|(option, text)| (option, text.into())).collect())
    }
}

/// The options that have a flag.
fn with_flag() -> impl Iterator<Item = Opt> {
    let options = Opt::ALL.iter().copied();
    options.filter(|option| !matches!(option.spec().bound, Bound::Only(_)))
}

fn arg(option: Opt) -> Arg {
    let spec = option.spec();
    let help: Vec<_> = spec.help.iter().map(|line| line.trim()).collect();
    let arg = Arg::new(spec.long)
        .short(spec.short)
        .long(spec.long)
        .value_name(spec.value)
        .help(help.join(" "))
        .help_heading(spec.group.heading())
        .hide(spec.group == Group::Compatibility)
        .action(ArgAction::Set);
    match spec.kind {
        // A negative number is refused by the option's parser, whose message says what to write.
        Kind::Text => arg.allow_negative_numbers(true),
        Kind::Switch => arg
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .value_parser(StringValueParser::new().try_map(|text| {
                parse_bool(&text)
                    .map(|is_on| bool_text(is_on).to_owned())
                    .ok_or("write true or false")
            })),
    }
}

impl Args for Flags {
    fn augment_args(cmd: Command) -> Command {
        cmd.args_override_self(true).args(with_flag().map(arg))
    }

    fn augment_args_for_update(cmd: Command) -> Command {
        Self::augment_args(cmd)
    }
}

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        for option in with_flag() {
            if let Some(text) = matches.get_one::<String>(option.spec().long) {
                self.set(option, text);
            }
        }
        Ok(())
    }
}
