//! A machine of QEMU without a disk and without a network card: nothing in it can reach anything outside.
//!
//! The processor is emulated: the host may be a virtual machine itself.

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result, bail};

use crate::command;

/// The memory of the machine, in MiB.
const MEMORY: u32 = 3072;

/// Boots a kernel with an archive as its root file system, and calls `read` with each line that its tests print.
/// Returns the status that the first program reports. `folder` takes the files of the ports.
pub(crate) fn boot(
    image: &Path,
    archive: &Path,
    folder: &Path,
    limit: Duration,
    read: impl FnMut(&str),
) -> Result<u8> {
    let (console, status) = (folder.join("console"), folder.join("status"));
    for file in [&console, &status] {
        fs::write(file, "").with_context(|| format!("write {}", file.display()))?;
    }
    let port = |path: &Path| format!("file:{}", path.display());
    // Ends the machine also if this program is killed.
    let mut machine = Command::new("timeout");
    machine
        .args(["--signal=KILL", &limit.as_secs().to_string()])
        .arg("qemu-system-x86_64")
        .args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2"])
        .args(["-m", &MEMORY.to_string()])
        .args(["-nodefaults", "-no-user-config", "-display", "none"])
        .args(["-no-reboot", "-kernel"])
        .arg(image)
        .arg("-initrd")
        .arg(archive)
        // A panic ends the machine, so that no status is reported.
        .args(["-append", "console=ttyS0 panic=-1 quiet mitigations=off"])
        .args(["-serial", &port(&console), "-serial", "stdio"])
        .args(["-serial", &port(&status)]);
    let ended = command::run_watched(&mut machine, read);
    let reported = fs::read_to_string(&status).context("read the status of the machine")?;
    if let Some(code) = exit_status(&reported) {
        return Ok(code);
    }
    let log = fs::read_to_string(&console).unwrap_or_default();
    let last: Vec<_> = log.lines().rev().take(20).collect();
    let last = last.into_iter().rev().collect::<Vec<_>>().join("\n");
    ended.with_context(|| format!("boot {}: the console ends with\n{last}", image.display()))?;
    bail!(
        "boot {}: the machine ended without a status; the console ends with\n{last}",
        image.display()
    )
}

/// The status in the report of the first program.
fn exit_status(reported: &str) -> Option<u8> {
    let line = reported
        .lines()
        .find_map(|line| line.strip_prefix("exit "))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_complete_report_is_a_status() {
        assert_eq!(exit_status("exit 101\r\n"), Some(101));
        assert_eq!(exit_status("exit"), None);
        assert_eq!(exit_status(""), None);
    }
}
