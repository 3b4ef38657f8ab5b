//! bpf-linker: from PATH, from the cache, or built into the cache.
//!
//! The linker reads LLVM bitcode, so its LLVM must not be older than the LLVM of the compiler that wrote the bitcode.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::{
    debian::{self, is_debian},
    part::Part,
    toolchain::BpfCompiler,
};
use crate::{
    cache,
    command::{self, ask, cargo},
};

const VERSION: &str = "0.13.0";

/// bpf-linker, as a part.
pub(crate) struct BpfLinker;

impl Part for BpfLinker {
    fn name(&self) -> &'static str {
        "bpf-linker"
    }

    fn found(&self) -> Result<Option<String>> {
        // The user chose the one in PATH, and the build script prefers it. It only has to run.
        if let Some(version) = ask("bpf-linker", &["--version"]) {
            return Ok(Some(format!("{} in PATH", version.trim())));
        }
        let cache = cache::own()?;
        let program = cache.join("bin/bpf-linker");
        let version = ask(&program.to_string_lossy(), &["--version"]);
        let current =
            version.is_some_and(|version| version.trim() == format!("bpf-linker {VERSION}"));
        let (true, Some(compiler)) = (current, BpfCompiler::find()) else {
            return Ok(None);
        };
        let llvm = compiler.llvm()?;
        Ok(is_built_with(&cache, llvm).then(|| describe(llvm, &program)))
    }

    fn install(&self) -> Result<String> {
        let compiler = BpfCompiler::find().context(
            "choose an LLVM for bpf-linker: there is no BPF compiler yet: install that first",
        )?;
        let llvm = compiler.llvm()?;
        let prefix = llvm_prefix(llvm)?;
        let cache = cache::own()?;
        let mut install = cargo([
            "install",
            "bpf-linker",
            "--version",
            VERSION,
            "--locked",
            "--force",
        ]);
        install
            .args([
                "--no-default-features",
                "--features",
                &feature(llvm),
                "--root",
            ])
            .arg(&cache);
        // Without both variables, its build script takes the first llvm-config that it finds, of any version.
        install
            .env("LLVM_PREFIX", &prefix)
            .env("PATH", path_with(&prefix.join("bin"))?);
        command::install(&mut install)?;
        Ok(describe(llvm, &cache.join("bin/bpf-linker")))
    }
}

fn describe(llvm: u32, program: &Path) -> String {
    format!("{VERSION} with LLVM {llvm}: {}", program.display())
}

fn feature(llvm: u32) -> String {
    format!("llvm-{llvm}")
}

/// Whether cargo's record of the cache has the feature of this LLVM. bpf-linker does not print its LLVM version, and no
/// other program in the cache has such a feature.
fn is_built_with(cache: &Path, llvm: u32) -> bool {
    let record = fs::read_to_string(cache.join(".crates2.json"));
    record.is_ok_and(|record| record.contains(&format!("\"{}\"", feature(llvm))))
}

/// The folder of this LLVM. Installs Debian's if it is missing.
fn llvm_prefix(llvm: u32) -> Result<PathBuf> {
    if is_debian() {
        debian::install(&[&format!("llvm-{llvm}-dev")])?;
    }
    let known = ["/usr/lib/llvm-", "/usr/lib64/llvm", "/usr/lib/llvm"]
        .map(|dir| PathBuf::from(format!("{dir}{llvm}")));
    known.into_iter().find(|dir| dir.join("bin/llvm-config").exists()).with_context(|| {
        format!(
            "find LLVM {llvm}: its llvm-config is in none of the usual places: install its development files, or put \
             a bpf-linker built with it in PATH:\n    LLVM_PREFIX=<LLVM {llvm}> cargo install bpf-linker --version \
             {VERSION} --locked --no-default-features --features {}",
            feature(llvm)
        )
    })
}

fn path_with(first: &Path) -> Result<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = [first.to_owned()]
        .into_iter()
        .chain(env::split_paths(&path));
    env::join_paths(dirs).context("put LLVM first in PATH")
}
