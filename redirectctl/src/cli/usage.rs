//! Command lines that are wrong: their exit status, and an error that clap does not find by itself.

use anyhow::Error;
use clap::error::ErrorKind;
use redirect_user::config::{CidrListError, ConfigError};

use super::context::Context;

/// The exit status of a wrong command line, as in clap.
pub(super) const USAGE: u8 = 2;

/// Whether the command line is at fault: the value of an option, or of a variable that stands for it.
pub(super) fn is_usage(error: &Error) -> bool {
    let is_argument = |error: &CidrListError| error.errors.iter().all(|bad| bad.line.is_none());
    error.is::<ConfigError>() || error.downcast_ref().is_some_and(is_argument)
}

impl Context<'_> {
    /// The error of a subcommand that is given both an attached pod and options. Clap's own error would list every
    /// option.
    pub(super) fn pod_or_options(&self, subcommand: &str) -> clap::Error {
        let mut command = (self.definition)();
        command.build();
        let text = "--cgroup stands for the options that the cgroup has: leave out the others";
        match command.find_subcommand_mut(subcommand) {
            Some(found) => found.error(ErrorKind::ArgumentConflict, text),
            None => command.error(ErrorKind::ArgumentConflict, text),
        }
    }
}
