//! The emulator of machines with other kernels.
//!
//! On Debian 12 it comes from the backports: the release's own would replace a newer qemu-utils.

use std::path::Path;

use anyhow::{Result, bail};

use super::{
    apt_index::AptIndex,
    debian::{self, is_debian},
    part::Part,
    purpose::Purpose,
};
use crate::{
    cache,
    command::{self, ask},
    workspace::is_root,
};

const PROGRAM: &str = "qemu-system-x86_64";
const PACKAGE: &str = "qemu-system-x86";
const SUITES: [(&str, &str); 2] = [("deb", "bookworm"), ("deb", "bookworm-backports")];

/// The emulator, as a part.
pub(crate) struct Qemu;

impl Part for Qemu {
    fn name(&self) -> &'static str {
        "QEMU"
    }

    fn serves(&self, purpose: Purpose) -> bool {
        matches!(purpose, Purpose::Kernels | Purpose::All)
    }

    fn found(&self) -> Result<Option<String>> {
        let version = ask(PROGRAM, &["--version"]);
        Ok(version.and_then(|text| text.lines().next().map(str::to_owned)))
    }

    fn install(&self) -> Result<String> {
        if !is_debian() || !is_root() {
            bail!(
                "install {PROGRAM}: that takes Debian's apt-get and root: run it as root, or install it by hand"
            );
        }
        if is_bookworm() {
            let _lock = cache::lock("qemu")?;
            let folder = Path::new(cache::SHARED).join("qemu");
            let index = AptIndex::make(&folder, &SUITES)?;
            let mut install = index.apt("apt-get");
            install.args(["install", "--yes", "--no-install-recommends"]);
            command::install(install.args(["--target-release", "bookworm-backports", PACKAGE]))?;
        } else {
            debian::install(&[PACKAGE])?;
        }
        Ok(PACKAGE.to_owned())
    }
}

fn is_bookworm() -> bool {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    release
        .lines()
        .any(|line| line == "VERSION_CODENAME=bookworm")
}
