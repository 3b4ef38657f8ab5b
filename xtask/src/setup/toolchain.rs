//! The compiler for the BPF target, which no stable rustup toolchain has: it lacks that target's `core`.
//!
//! The order is that of redirect-user's build script, which asks the same questions again; the two must agree, or
//! bpf-linker is built for the wrong LLVM.

use std::{fs, path::Path, process::Command, sync::OnceLock};

use anyhow::{Context as _, Result, bail};

use super::{Part, debian};
use crate::command::{self, ask};

/// Debian's compiler and a prebuilt `core` for the BPF target: no nightly, no library sources, no build-std.
const DEBIAN_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf"];

/// Where Debian's compiler is, whatever rustup puts before it in PATH.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// The compiler for the BPF target, as a part.
pub(crate) struct Toolchain;

/// The compilers that can do it, best first.
#[derive(Clone, Copy, Debug)]
pub(crate) enum BpfCompiler {
    /// rustup's nightly with the library sources, from which cargo builds `core`
    Nightly,
    /// Debian's, with its prebuilt `core`
    Debian,
}

impl BpfCompiler {
    /// The one that a build will use. Looked for once: two processes are most of what a ready machine pays.
    pub(crate) fn find() -> Option<Self> {
        static FOUND: OnceLock<BpfCompiler> = OnceLock::new();
        if let Some(&found) = FOUND.get() {
            return Some(found);
        }
        let found = if nightly_has_source() {
            Self::Nightly
        } else if debian_has_core() {
            Self::Debian
        } else {
            return None;
        };
        Some(*FOUND.get_or_init(|| found))
    }

    /// The major version of its LLVM: bpf-linker's must not be older.
    pub(crate) fn llvm(self) -> Result<u32> {
        let version = match self {
            Self::Nightly => ask("rustup", &["run", "nightly", "rustc", "-vV"]),
            Self::Debian => ask(DEBIAN_RUSTC, &["-vV"]),
        };
        let version = version.context("ask the BPF compiler for its version: it did not answer")?;
        llvm_major(&version)
            .context("read the BPF compiler's LLVM version: `rustc -vV` does not say it")
    }

    const fn describe(self) -> &'static str {
        match self {
            Self::Nightly => "rustup's nightly with rust-src",
            Self::Debian => "Debian's rustc with its core for BPF",
        }
    }
}

impl Part for Toolchain {
    fn name(&self) -> &'static str {
        "BPF compiler"
    }

    fn found(&self) -> Result<Option<String>> {
        Ok(BpfCompiler::find().map(|compiler| compiler.describe().to_owned()))
    }

    fn install(&self) -> Result<String> {
        let Err(no_package) = debian::install(&DEBIAN_PACKAGES) else {
            return installed();
        };
        let rust_src = ["component", "add", "rust-src", "--toolchain", "nightly"];
        let Err(no_component) = command::install(Command::new("rustup").args(rust_src)) else {
            return installed();
        };
        bail!(
            "install a compiler for the BPF target: neither way worked; type one of\n    \
             apt-get install --no-install-recommends {}    (Debian 12, as root)\n    \
             rustup toolchain install nightly --component rust-src\n\
             what was tried:\n{no_package:#}\n{no_component:#}",
            DEBIAN_PACKAGES.join(" "),
        )
    }
}

fn installed() -> Result<String> {
    let compiler = BpfCompiler::find()
        .context("find the BPF compiler just installed: it is not where it should be")?;
    Ok(compiler.describe().to_owned())
}

fn nightly_has_source() -> bool {
    let sysroot = ask("rustup", &["run", "nightly", "rustc", "--print", "sysroot"]);
    sysroot.is_some_and(|dir| {
        Path::new(dir.trim())
            .join("lib/rustlib/src/rust/library/core")
            .is_dir()
    })
}

fn debian_has_core() -> bool {
    let libraries = ask(
        DEBIAN_RUSTC,
        &["--print", "target-libdir", "--target", "bpfel-unknown-none"],
    );
    let Some(entries) = libraries.and_then(|dir| fs::read_dir(dir.trim()).ok()) else {
        return false;
    };
    entries
        .flatten()
        .any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-"))
}

fn llvm_major(version: &str) -> Option<u32> {
    let llvm = version
        .lines()
        .find_map(|line| line.strip_prefix("LLVM version: "))?;
    llvm.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_llvm_version_is_read_from_rustc() {
        assert_eq!(
            llvm_major("rustc 1.96.0\nhost: x\nLLVM version: 22.1.8\n"),
            Some(22)
        );
        assert_eq!(llvm_major("rustc 1.96.0\n"), None);
    }
}
