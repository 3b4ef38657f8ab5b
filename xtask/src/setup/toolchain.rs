//! The compiler for the BPF target. Stable rustup toolchains cannot compile for it: they lack the target's `core`.
//!
//! The order of the compilers is that of redirect-user's build script, which makes the same checks again. Both must
//! agree, or bpf-linker is built for the wrong LLVM.

use std::{fs, path::Path, process::Command, sync::OnceLock};

use anyhow::{Context as _, Result, bail};

use super::{debian, part::Part};
use crate::command::{self, ask};

/// Debian's compiler and a prebuilt `core` for the BPF target: no nightly, no library sources, no build-std.
const DEBIAN_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf"];

/// The path of Debian's compiler: rustup may put another compiler before it in PATH.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// The compiler for the BPF target, as a part.
pub(crate) struct Toolchain;

/// The compilers for the BPF target, best first.
#[derive(Clone, Copy, Debug)]
pub(crate) enum BpfCompiler {
    /// rustup's nightly with the library sources, from which cargo builds `core`
    Nightly,
    /// Debian's, with its prebuilt `core`
    Debian,
}

impl BpfCompiler {
    /// Finds the compiler that a build uses. The search runs once: on a ready machine, its two processes take most of
    /// the time of a set-up.
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

    /// The major version of the compiler's LLVM. The LLVM of bpf-linker must not be older.
    pub(crate) fn llvm(self) -> Result<u32> {
        let version = match self {
            Self::Nightly => ask("rustup", &["run", "nightly", "rustc", "-vV"]),
            Self::Debian => ask(DEBIAN_RUSTC, &["-vV"]),
        };
        let version = version.context("ask the BPF compiler for its version: it does not run")?;
        llvm_major(&version)
            .context("read the BPF compiler's LLVM version: `rustc -vV` does not print it")
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
            "install a compiler for the BPF target: neither way worked: type one of\n    \
             apt-get install --no-install-recommends {}    (Debian 12, as root)\n    \
             rustup toolchain install nightly --component rust-src\n\
             The two ways failed with:\n{no_package:#}\n{no_component:#}",
            DEBIAN_PACKAGES.join(" "),
        )
    }
}

fn installed() -> Result<String> {
    let compiler = BpfCompiler::find()
        .context("find the installed BPF compiler: it is not in its usual place")?;
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
