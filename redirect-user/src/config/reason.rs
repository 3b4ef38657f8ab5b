//! The reason why an option is refused.

use std::fmt;

/// Whether a refused option will be supported later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The option is planned.
    NotYet,
    /// The option cannot be supported: a hook at the socket does not see what the option is about.
    Never,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotYet => "not supported yet",
            Self::Never => "not supported, and never will be",
        })
    }
}
