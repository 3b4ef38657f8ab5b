//! cargo-deny, which checks the dependency tree against deny.toml.

use std::path::PathBuf;

use anyhow::Result;

use super::{part::Part, purpose::Purpose};
use crate::{
    cache,
    command::{self, ask, cargo},
};

/// The version is pinned, because the keys of deny.toml and their meanings change between versions.
const VERSION: &str = "0.20.2";

/// cargo-deny, as a part.
pub(crate) struct CargoDeny;

/// The installed program. One in PATH may be of another version, and is not used.
pub(crate) fn program() -> Result<PathBuf> {
    Ok(cache::own()?.join("bin/cargo-deny"))
}

impl Part for CargoDeny {
    fn name(&self) -> &'static str {
        "cargo-deny"
    }

    fn serves(&self, purpose: Purpose) -> bool {
        matches!(purpose, Purpose::Lint | Purpose::All)
    }

    fn found(&self) -> Result<Option<String>> {
        let program = program()?;
        let version = ask(&program.to_string_lossy(), &["--version"]);
        let current =
            version.is_some_and(|version| version.trim() == format!("cargo-deny {VERSION}"));
        Ok(current.then(|| format!("{VERSION}: {}", program.display())))
    }

    fn install(&self) -> Result<String> {
        let mut install = cargo([
            "install",
            "cargo-deny",
            "--version",
            VERSION,
            "--locked",
            "--force",
            "--root",
        ]);
        install.arg(cache::own()?);
        // The program runs for a second, so a fast compilation matters more than a fast program (53 s on two cores).
        install
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
            .env("CARGO_PROFILE_RELEASE_LTO", "off");
        install
            .env("CARGO_PROFILE_RELEASE_DEBUG", "false")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
        command::install(&mut install)?;
        Ok(format!("{VERSION}: {}", program()?.display()))
    }
}
