//! Runs of other programs: to the terminal, captured, or as a question. Every error names the command line.

use std::{
    ffi::OsStr,
    io::{self, BufRead as _, BufReader, Write as _},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{spinner::Spinner, workspace};

/// The last lines of a captured program's error output that are repeated.
const TAIL_LINES: usize = 30;

/// The first characters of a command line that are shown: some command lines name thousands of packages.
const SHOWN_CHARS: usize = 300;

/// A cargo command in the root of the workspace.
pub(crate) fn cargo(args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.args(args).current_dir(workspace::root());
    cargo
}

/// Runs a program that prints to the terminal.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("run `{}`", shown(command)))?;
    if !status.success() {
        bail!("run `{}`: {status}", shown(command));
    }
    Ok(())
}

/// Runs a program that prints to the terminal, and calls `read` with each line of its standard output.
pub(crate) fn run_watched(command: &mut Command, mut read: impl FnMut(&str)) -> Result<()> {
    let name = format!("run `{}`", shown(command));
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| name.clone())?;
    let mut output = BufReader::new(child.stdout.take().context("pipe the output")?);
    let mut line = Vec::new();
    while output
        .read_until(b'\n', &mut line)
        .context("read the output")?
        > 0
    {
        io::stdout().write_all(&line).context("print the output")?;
        read(String::from_utf8_lossy(&line).trim_end());
        line.clear();
    }
    let status = child.wait().with_context(|| name.clone())?;
    if !status.success() {
        bail!("{name}: {status}");
    }
    Ok(())
}

/// Runs a program and returns its standard output. The error has the end of its error output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("run `{}`", shown(command)))?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        let complaint = if complaint.trim().is_empty() {
            printed.as_str()
        } else {
            &complaint
        };
        bail!(
            "run `{}`: {}\n{}",
            shown(command),
            output.status,
            tail(complaint)
        );
    }
    Ok(printed)
}

/// Runs a long program, and shows its command line meanwhile. Its output matters only when it fails.
pub(crate) fn install(command: &mut Command) -> Result<()> {
    let _spinner = Spinner::start(&short(&shown(command)));
    output(command).map(drop)
}

/// Asks a program a question. Returns its output; `None` if the program is missing or fails.
pub(crate) fn ask(program: &str, args: &[&str]) -> Option<String> {
    output(Command::new(program).args(args)).ok()
}

/// The command line, as typed.
pub(crate) fn shown(command: &Command) -> String {
    let words = [command.get_program()]
        .into_iter()
        .chain(command.get_args());
    words
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}

/// The beginning of a command line.
fn short(line: &str) -> String {
    match line.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or(line)),
        None => line.to_owned(),
    }
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    let first = lines.len().saturating_sub(TAIL_LINES);
    lines.get(first..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_of_a_failed_program_has_its_error_output() {
        let err =
            output(Command::new("sh").args(["-c", "echo no such thing >&2; exit 3"])).unwrap_err();
        let text = format!("{err:#}");
        assert!(text.contains("no such thing"), "{text}");
        assert!(text.contains("exit status: 3"), "{text}");
    }

    #[test]
    fn every_line_is_read_before_the_failure_is_returned() {
        let mut lines = Vec::new();
        let err = run_watched(
            Command::new("sh").args(["-c", "echo one; printf two; exit 3"]),
            |line| lines.push(line.to_owned()),
        )
        .unwrap_err();
        assert_eq!(lines, ["one", "two"]);
        assert!(err.to_string().contains("exit status: 3"), "{err:#}");
    }

    #[test]
    fn a_missing_program_gives_no_answer() {
        assert_eq!(ask("no-such-program-here", &["--version"]), None);
    }

    #[test]
    fn a_long_command_line_is_cut_between_characters() {
        let line = "ü".repeat(SHOWN_CHARS);
        assert_eq!(short(&line), line);
        assert_eq!(short(&format!("{line}ü")), format!("{line}…"));
    }

    #[test]
    fn the_tail_keeps_the_last_lines() {
        let text = (0..100)
            .map(|n| n.to_string())
            .collect::<Vec<_>>()
            .join("\n");
        assert!(tail(&text).starts_with("70\n"));
        assert!(tail(&text).ends_with("\n99"));
    }
}
