//! Debian packages: finding the missing ones, and installing only those.
//!
//! Must never touch an installed package: no upgrade, no recommended extras.

use std::{
    fs,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::{Result, bail};

use crate::{
    command::{self, shown},
    workspace::is_root,
};

/// Whether the package index was refreshed: at most once in a run, and only if a package has to be installed.
static INDEX_IS_FRESH: AtomicBool = AtomicBool::new(false);

/// Whether this system installs its programs with apt.
pub(crate) fn is_debian() -> bool {
    fs::read_to_string("/etc/os-release").is_ok_and(|text| names_debian(&text))
}

/// The packages that are not installed.
pub(crate) fn missing<'a>(packages: &[&'a str]) -> Result<Vec<&'a str>> {
    // dpkg-query fails if a name is unknown, but its list of the other packages is right.
    let known = Command::new("dpkg-query")
        .args(["--show", "--showformat", "${Package} ${db:Status-Status}\n"])
        .args(packages)
        .output()?;
    let known = String::from_utf8_lossy(&known.stdout);
    let installed = |package: &str| {
        known
            .lines()
            .any(|line| line == format!("{package} installed"))
    };
    Ok(packages
        .iter()
        .copied()
        .filter(|package| !installed(package))
        .collect())
}

/// Installs the packages that are missing.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    if !is_debian() {
        bail!(
            "install {}: this is not Debian: install the corresponding packages of this system",
            packages.join(", ")
        );
    }
    let missing = missing(packages)?;
    if missing.is_empty() {
        return Ok(());
    }
    let mut install = apt_get("install");
    install
        .args(["--yes", "--no-install-recommends"])
        .args(&missing);
    if !is_root() {
        bail!(
            "install {}: not root: type:\n    sudo {}",
            missing.join(", "),
            shown(&install)
        );
    }
    if !INDEX_IS_FRESH.swap(true, Ordering::Relaxed) {
        command::install(&mut apt_get("update"))?;
    }
    command::install(&mut install)
}

fn apt_get(subcommand: &str) -> Command {
    let mut apt = Command::new("apt-get");
    apt.env("DEBIAN_FRONTEND", "noninteractive").arg(subcommand);
    apt
}

fn names_debian(os_release: &str) -> bool {
    let values = os_release
        .lines()
        .filter_map(|line| line.strip_prefix("ID=").or(line.strip_prefix("ID_LIKE=")));
    values
        .flat_map(|value| value.trim_matches('"').split(' '))
        .any(|id| id == "debian")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_and_its_derivatives_are_recognised() {
        assert!(names_debian("NAME=x\nID=debian\n"));
        assert!(names_debian("ID=mint\nID_LIKE=\"ubuntu debian\"\n"));
        assert!(!names_debian("ID=fedora\nNAME=debian\n"));
    }

    #[test]
    fn an_unknown_package_is_missing() {
        if is_debian() {
            assert_eq!(
                missing(&["dpkg", "no-such-package-here"]).unwrap(),
                ["no-such-package-here"]
            );
        }
    }
}
