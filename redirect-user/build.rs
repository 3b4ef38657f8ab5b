//! Builds the BPF object into `OUT_DIR/redirect`, and chooses its toolchain.
#![expect(
    clippy::disallowed_methods,
    reason = "a build script reads cargo's environment and queries the compilers"
)]

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use aya_build::{Package, Toolchain, build_ebpf};

/// The prefix of Debian's compiler, which has `core` for the BPF target.
const DEBIAN: &str = "/usr";

fn main() -> Result<()> {
    let linker_folder = linker_folder().context("find bpf-linker: run `cargo xtask setup`")?;
    let toolchain = toolchain().context("find a compiler for BPF: run `cargo xtask setup`")?;

    let mut folders = vec![linker_folder];
    folders.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    set_env("PATH", env::join_paths(folders)?);
    if toolchain == DEBIAN {
        // aya-ebpf uses an unstable feature. Naming the crate keeps everything else stable, and
        // keeps aya-build from building `core` itself.
        set_env("RUSTC_BOOTSTRAP", "aya_ebpf".into());
    }

    // aya-build prints every line of the inner cargo as a warning, so only real warnings may be
    // printed.
    set_env("CARGO_TERM_QUIET", "true".into());

    let features: &[&str] = if env::var_os("CARGO_FEATURE_LOG").is_some() {
        &["log"]
    } else {
        &[]
    };
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../redirect-ebpf");
    println!(
        "cargo:rerun-if-changed={}",
        concat!(env!("CARGO_MANIFEST_DIR"), "/../redirect-common/src")
    );
    build_ebpf(
        [Package {
            name: "redirect-ebpf",
            root_dir: root,
            features,
            ..Default::default()
        }],
        Toolchain::Custom(toolchain),
    )
}

#[expect(unsafe_code, reason = "changing the environment is unsafe")]
fn set_env(name: &str, value: OsString) {
    // SAFETY: a build script has one thread.
    unsafe { env::set_var(name, value) }
}

/// The folder of bpf-linker: on PATH, or in the cache of `cargo xtask setup`.
fn linker_folder() -> Result<PathBuf> {
    let home = env::var_os("HOME").map(PathBuf::from);
    let cache = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or(home.map(|home| home.join(".cache")));
    let on_path = env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect::<Vec<_>>();
    on_path
        .into_iter()
        .chain(cache.map(|cache| cache.join("redirect-ebpf/bin")))
        .find(|folder| folder.join("bpf-linker").is_file())
        .context("no bpf-linker on PATH or in the cache folder")
}

/// The toolchain for `rustup run`: nightly if it can build `core`, else Debian's.
fn toolchain() -> Result<&'static str> {
    if output_of("rustup", &["run", "nightly", "rustc", "--print", "sysroot"]).is_some_and(
        |sysroot| {
            Path::new(&sysroot)
                .join("lib/rustlib/src/rust/library/core")
                .is_dir()
        },
    ) {
        return Ok("nightly");
    }
    let libraries = ["--print", "target-libdir", "--target", "bpfel-unknown-none"];
    let has_core = output_of("/usr/bin/rustc", &libraries)
        .and_then(|folder| std::fs::read_dir(folder).ok())
        .is_some_and(|files| {
            files
                .flatten()
                .any(|file| file.file_name().to_string_lossy().starts_with("libcore-"))
        });
    if has_core {
        return Ok(DEBIAN);
    }
    bail!("neither a nightly with rust-src nor Debian's compiler with a BPF core is installed")
}

/// The output of a program, if it can be run and succeeds.
fn output_of(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
