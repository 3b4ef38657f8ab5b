//! The errors of a configuration. All problems are reported at once.

use std::fmt;

use thiserror::Error;

use super::{
    element::{ElementError, Quoted},
    reason::Reason,
};

/// A configuration that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct ConfigError {
    /// At least one problem, in the order of [`super::Opt::ALL`].
    pub problems: Vec<Problem>,
}

/// One problem of one option.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Problem {
    /// The value cannot be parsed.
    #[error("parse {option} {}: {cause}", Quoted(.value))]
    Syntax {
        /// The flag or the variable that the value comes from.
        option: String,
        /// The whole value.
        value: String,
        /// The bad element and its fault.
        cause: ElementError,
    },
    /// The value asks for something that is not supported.
    #[error("use {option}{}: {reason}: {remedy}", Value(.value.as_deref()))]
    Refused {
        /// The flag or the variable that the value comes from.
        option: String,
        /// The whole value; `None` for a switch.
        value: Option<String>,
        /// Whether the option will be supported later.
        reason: Reason,
        /// The cause, and what to do instead.
        remedy: &'static str,
    },
}

struct Value<'a>(Option<&'a str>);

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .map_or(Ok(()), |value| write!(f, " {}", Quoted(value)))
    }
}

impl fmt::Display for ConfigError {
    /// Writes a single problem alone, and several problems one per line after their number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [problem] = self.problems.as_slice() {
            return write!(f, "{problem}");
        }
        write!(f, "{} values cannot be used:", self.problems.len())?;
        self.problems
            .iter()
            .try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}
