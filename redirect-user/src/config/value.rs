//! The value of an option, and the source it comes from: a flag, else a variable, else the default.

use super::{
    boolean::{bool_text, parse_bool},
    environment::Environment,
    flags::Flags,
    option::{Kind, Opt},
};

/// The source of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Flag,
    Variable(String),
    Default,
}

/// An option's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OptionValue {
    pub(crate) option: Opt,
    pub(crate) source: Source,
    pub(crate) text: String,
}

impl OptionValue {
    /// The value with the highest precedence. A variable with a malformed boolean is ignored, as
    /// `istio-iptables` does. A variable that is set but empty is a value.
    pub(crate) fn of(option: Opt, flags: &Flags, environment: &Environment) -> Self {
        let spec = option.spec();
        let new = |source, text: &str| Self {
            option,
            source,
            text: text.to_owned(),
        };
        if let Some(text) = flags.get(option) {
            return new(Source::Flag, text);
        }
        option
            .variables()
            .into_iter()
            .find_map(|variable| {
                let text = match (spec.kind, environment.get(&variable)?) {
                    (Kind::Text, text) => text,
                    (Kind::Switch, text) => bool_text(parse_bool(text)?),
                };
                Some(new(Source::Variable(variable), text))
            })
            .unwrap_or_else(|| new(Source::Default, spec.default))
    }

    /// The name of the option, or of the variable that the value comes from.
    pub(crate) fn name(&self) -> String {
        match &self.source {
            Source::Variable(variable) => format!("{variable} (environment)"),
            Source::Flag | Source::Default => self.option.name(),
        }
    }

    /// Whether the option is a switch that is on.
    pub(crate) fn is_on(&self) -> bool {
        self.option.spec().kind == Kind::Switch && self.text == bool_text(true)
    }
}
