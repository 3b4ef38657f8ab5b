//! Why a configuration cannot be used. Every problem is reported at once.

use std::fmt;

use thiserror::Error;

use super::{
    element::{ElementError, Quoted},
    refusal::Reason,
};

/// A configuration that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct ConfigError {
    /// At least one problem, in the order of [`super::Opt::ALL`].
    pub problems: Vec<Problem>,
}

/// One thing wrong with one option.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Problem {
    /// The value cannot be parsed.
    #[error("parse {option} {}: {cause}", Quoted(.value))]
    Syntax {
        /// The flag or the variable that gave it.
        option: String,
        /// The whole value.
        value: String,
        /// The bad element and what is wrong with it.
        cause: ElementError,
    },
    /// The value means something that is not supported.
    #[error("use {option}{}: {reason}: {remedy}", Value(.value.as_deref()))]
    Refused {
        /// The flag or the variable that gave it.
        option: String,
        /// The whole value, unless it is a switch.
        value: Option<String>,
        /// Whether it ever will be.
        reason: Reason,
        /// Why, and what to do.
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
    /// One problem as it is; several one a line, under their number.
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
