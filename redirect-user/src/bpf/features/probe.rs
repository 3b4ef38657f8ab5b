//! One question to the machine, and its answer.

use std::fmt;

use redirect_common::hooks::KernelVersion;

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Availability {
    /// It is there.
    Present(String),
    /// It is not.
    Missing {
        /// What was seen.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// It could not be asked.
    Unknown(String),
}

impl Availability {
    /// The outcome's name in text output and JSON.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Present(_) => "present",
            Self::Missing { .. } => "missing",
            Self::Unknown(_) => "unknown",
        }
    }

    pub(super) fn missing(reason: impl fmt::Display, remedy: impl Into<String>) -> Self {
        Self::Missing {
            reason: reason.to_string(),
            remedy: remedy.into(),
        }
    }
}

/// A question to the machine.
pub struct Probe {
    /// What is asked for.
    pub name: String,
    /// What would not work without it.
    pub needed_for: &'static str,
    /// The kernel that brought it, where it is the kernel that brings it.
    pub since: Option<KernelVersion>,
    /// Whether nothing works without it.
    pub required: bool,
    ask: Box<dyn Fn() -> Availability>,
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Probe {
    /// Asks.
    #[must_use]
    pub fn run(&self) -> Availability {
        (self.ask)()
    }

    pub(super) fn new(
        name: impl Into<String>,
        needed_for: &'static str,
        since: impl Into<Option<KernelVersion>>,
        ask: impl Fn() -> Availability + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            needed_for,
            since: since.into(),
            required: true,
            ask: Box::new(ask),
        }
    }

    pub(super) fn optional(self) -> Self {
        Self {
            required: false,
            ..self
        }
    }
}

/// Whether every required thing is present.
pub fn all_present<'a>(results: impl IntoIterator<Item = (&'a Probe, &'a Availability)>) -> bool {
    results
        .into_iter()
        .all(|(probe, outcome)| !probe.required || matches!(outcome, Availability::Present(_)))
}
