//! `cargo xtask docs`: runs redirect-user's example `docs`, which knows the tables.

use anyhow::Result;

use crate::{
    command::{self, cargo},
    setup::{self, Purpose},
};

/// Write the generated tables of README.md and docs/ anew.
///
/// A test fails when they are not what the code says.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Sets up what is missing, then runs the example.
pub(crate) fn run(_args: &Args) -> Result<()> {
    setup::ensure(Purpose::Build)?;
    let example = ["--package", "redirect-user", "--example", "docs"];
    command::run(cargo(["run", "--quiet"]).args(example))
}
