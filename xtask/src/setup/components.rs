//! rustfmt and clippy of the current toolchain.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result};

use super::{part::Part, purpose::Purpose};
use crate::command::{self, ask};

/// rustfmt and clippy, as a part.
pub(crate) struct Components;

impl Part for Components {
    fn name(&self) -> &'static str {
        "rustfmt+clippy"
    }

    fn serves(&self, purpose: Purpose) -> bool {
        matches!(purpose, Purpose::Lint | Purpose::All)
    }

    fn found(&self) -> Result<Option<String>> {
        // rustup puts a proxy into PATH even if the component is not installed, so the toolchain's folder decides.
        let sysroot = ask("rustc", &["--print", "sysroot"])
            .context("find rustc's folder: rustc does not run: put it in PATH")?;
        let bin = Path::new(sysroot.trim()).join("bin");
        let complete = ["cargo-fmt", "cargo-clippy"]
            .iter()
            .all(|program| bin.join(program).exists());
        Ok(complete.then(|| format!("in {}", bin.display())))
    }

    fn install(&self) -> Result<String> {
        let add = ["component", "add", "rustfmt", "clippy"];
        command::install(Command::new("rustup").args(add))
            .context("install rustfmt and clippy: type `rustup component add rustfmt clippy`, or your system's way")?;
        Ok("added by rustup".to_owned())
    }
}
