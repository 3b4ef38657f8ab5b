//! Helm's engine, from a wheel that has it as a library. It renders deploy/chart for the tests and `cargo xtask docs`.

use std::path::PathBuf;

use anyhow::Result;

use super::{part::Part, purpose::Purpose, venv::Venv};

const VENV: Venv = Venv {
    name: "Helm",
    package: "helm-python-sdk",
    version: "0.2.2",
    // A Python that can import the library.
    link: "helm-python",
};

/// Helm, as a part.
pub(crate) struct Helm;

/// The Python that runs deploy/render.py.
pub(crate) fn program() -> PathBuf {
    VENV.program()
}

impl Part for Helm {
    fn name(&self) -> &'static str {
        VENV.name
    }

    fn serves(&self, purpose: Purpose) -> bool {
        purpose.is_test() || matches!(purpose, Purpose::Docs | Purpose::All)
    }

    fn found(&self) -> Result<Option<String>> {
        Ok(program().exists().then(|| VENV.describe()))
    }

    fn install(&self) -> Result<String> {
        VENV.install(|venv| {
            venv.ask("import helm_python")?;
            // A link to a link: Python finds its packages by the name that it was started with.
            Ok(PathBuf::from("python"))
        })?;
        Ok(VENV.describe())
    }
}
