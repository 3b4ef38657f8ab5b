//! `cargo xtask image`: the files of the container image, and a test that they start there.

use std::{
    env, fs,
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    build::build_static,
    command,
    workspace::{self, is_root},
};

/// The packages with the image's programs.
const PACKAGES: [&str; 3] = ["redirect-agent", "redirect-cni", "redirectctl"];
/// The programs, in one folder: the agent looks for the plugin beside itself.
const PROGRAMS: [&str; 3] = ["redirect-agent", "redirect-cni", "redirectctl"];

/// Build the files of the container image into target/image, and start them without any other file.
///
/// deploy/Containerfile runs this command, and copies the folder into an empty image.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Builds, copies, and starts the programs.
pub(crate) fn run(_args: &Args) -> Result<()> {
    let target = env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace::root().join("target"), PathBuf::from);
    let built = target.join(build_static(&PACKAGES)?);
    let image = workspace::root().join("target/image");
    match fs::remove_dir_all(&image) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("remove {}", image.display()));
        }
        Ok(()) | Err(_) => {}
    }
    let bin = image.join("bin");
    fs::create_dir_all(&bin).with_context(|| format!("create {}", bin.display()))?;
    let mut bytes = 0;
    for program in PROGRAMS {
        let to = bin.join(program);
        // Debug information is the largest part of a program.
        let mut strip = Command::new("strip");
        command::output(strip.arg("-o").arg(&to).arg(built.join(program)))?;
        bytes += fs::metadata(&to)
            .with_context(|| format!("read the size of {}", to.display()))?
            .len();
    }
    println!(
        "{} programs, {} kB, in {}",
        PROGRAMS.len(),
        bytes / 1000,
        image.display()
    );
    if !is_root() {
        println!("note: not root, so the programs are not started in a root folder of their own");
        return Ok(());
    }
    start_all(&image)
}

/// Starts each program in a root folder without any other file.
fn start_all(image: &Path) -> Result<()> {
    let start = |program: &str| {
        let mut chroot = Command::new("/usr/sbin/chroot");
        chroot.arg(image).arg(format!("/bin/{program}")).env_clear();
        chroot
    };
    for program in ["redirect-agent", "redirectctl"] {
        let version = command::output(start(program).arg("--version"))?;
        if !version.starts_with(program) {
            bail!("start {program}: it printed {version:?}");
        }
    }
    let mut asked = start("redirect-cni")
        .env("CNI_COMMAND", "VERSION")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("start redirect-cni")?;
    let mut stdin = asked.stdin.take().context("pipe the input")?;
    stdin
        .write_all(b"{\"cniVersion\": \"1.0.0\"}")
        .context("ask redirect-cni")?;
    drop(stdin);
    let answer = asked.wait_with_output().context("ask redirect-cni")?;
    let answer = String::from_utf8_lossy(&answer.stdout).into_owned();
    if !answer.contains("supportedVersions") {
        bail!("start redirect-cni: it printed {answer:?}");
    }
    println!("{} start without any other file", PROGRAMS.join(", "));
    Ok(())
}
