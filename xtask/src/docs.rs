//! `cargo xtask docs`: runs redirectctl's example `docs`, which writes the tables, and Helm.

use std::{fs, process::Command};

use anyhow::{Context as _, Result};

use crate::{
    command::{self, cargo},
    setup::{self, Purpose},
    workspace,
};

/// The manifests of deploy/render.py, by their names without `.yaml`.
const MANIFESTS: [&str; 3] = ["redirect-agent", "monitoring", "uninstall"];

/// Write the generated tables of README.md and docs/ anew, and deploy/*.yaml.
///
/// A test fails if they differ from the code and the chart.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Sets up what is missing, then writes.
pub(crate) fn run(_args: &Args) -> Result<()> {
    setup::ensure(Purpose::Docs)?;
    let example = ["--package", "redirectctl", "--example", "docs"];
    command::run(cargo(["run", "--quiet"]).args(example))?;
    let folder = workspace::root().join("deploy");
    for name in MANIFESTS {
        let mut render = Command::new(setup::helm());
        let fresh = command::output(render.arg(folder.join("render.py")).arg(name))?;
        let path = folder.join(name).with_extension("yaml");
        let shown = path.display();
        if fs::read_to_string(&path).ok().as_ref() != Some(&fresh) {
            fs::write(&path, fresh).with_context(|| format!("write {shown}"))?;
            println!("changed {shown}");
        }
    }
    Ok(())
}
