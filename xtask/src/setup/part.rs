//! A part of the setup: one thing that can be missing.

use anyhow::Result;

use super::purpose::Purpose;

/// One thing that can be missing.
pub(super) trait Part {
    /// The name in messages.
    fn name(&self) -> &'static str;

    /// Whether a purpose needs the part. Most parts are for a build, and so for every purpose.
    fn serves(&self, _purpose: Purpose) -> bool {
        true
    }

    /// A few words about an existing part; none if it is missing. Quick, because it runs before every subcommand.
    fn found(&self) -> Result<Option<String>>;

    /// Installs the part, and returns a few words about it. The error names the command to type instead.
    fn install(&self) -> Result<String>;
}
