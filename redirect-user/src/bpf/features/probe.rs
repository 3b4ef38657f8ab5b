//! A probe of the machine, and its result.

use std::fmt;

use redirect_common::hooks::KernelVersion;

/// The result of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Availability {
    /// The feature is present, with a detail to show.
    Present(String),
    /// The feature is missing.
    Missing {
        /// The observation that shows it.
        reason: String,
        /// The remedy.
        remedy: String,
    },
    /// The probe could not be run, for this reason.
    Unknown(String),
}

impl Availability {
    /// The name of the result in text output and JSON.
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

/// A probe of one feature of the machine.
pub struct Probe {
    /// The name of the feature.
    pub name: String,
    /// The function that does not work without the feature.
    pub needed_for: &'static str,
    /// The kernel that introduced the feature, if the kernel provides it.
    pub since: Option<KernelVersion>,
    /// Whether the redirector cannot work at all without the feature.
    pub required: bool,
    run: Box<dyn Fn() -> Availability>,
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Probe {
    /// Runs the probe.
    #[must_use]
    pub fn run(&self) -> Availability {
        (self.run)()
    }

    pub(super) fn new(
        name: impl Into<String>,
        needed_for: &'static str,
        since: impl Into<Option<KernelVersion>>,
        run: impl Fn() -> Availability + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            needed_for,
            since: since.into(),
            required: true,
            run: Box::new(run),
        }
    }

    pub(super) fn optional(self) -> Self {
        Self {
            required: false,
            ..self
        }
    }
}

/// Whether every required feature is present.
pub fn all_present<'a>(results: impl IntoIterator<Item = (&'a Probe, &'a Availability)>) -> bool {
    results
        .into_iter()
        .all(|(probe, outcome)| !probe.required || matches!(outcome, Availability::Present(_)))
}
