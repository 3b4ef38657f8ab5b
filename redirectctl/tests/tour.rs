//! The consoles of README.md and docs/tour.md, typed as they stand into one shell, print what the
//! pages show.
#![expect(
    clippy::disallowed_methods,
    clippy::panic_in_result_fn,
    reason = "a test runs programs, and fails by panicking"
)]

use std::{
    env,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Command, id},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use redirect_testkit::{missing_or_fail, unified_mount};

const PROGRAM: &str = env!("CARGO_BIN_EXE_redirectctl");
const NEEDS: &[&str] = &[
    "curl", "findmnt", "ip", "iptables", "nsenter", "python3", "unshare",
];

/// The cgroup that the pages make.
const SHOWN_CGROUP: &str = "shop.service";
/// The line of a page that stands for lines which are left out.
const LEFT_OUT: &str = "…";

/// A command of a console, and the lines below it.
struct Step {
    command: String,
    shown: Vec<String>,
}

/// The consoles of a page below `from`, up to `to`. Both are headings.
fn consoles(page: &str, from: &str, to: &str) -> Result<Vec<Step>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(page);
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let part = |heading: &str| {
        text.find(&format!("\n## {heading}\n"))
            .with_context(|| format!("{page}: no heading {heading:?}"))
    };
    let part = text.get(part(from)?..part(to)?).context("headings")?;
    let mut steps = Vec::<Step>::new();
    let mut console = false;
    for line in part.lines() {
        if line.starts_with("```") {
            console = line == "```console";
        } else if let Some(command) = line.strip_prefix("$ ").filter(|_| console) {
            steps.push(Step {
                command: command.to_owned(),
                shown: Vec::new(),
            });
        } else if console {
            let step = steps.last_mut().context("output before a command")?;
            step.shown.push(line.to_owned());
        }
    }
    // The test has built the programs already.
    steps.retain(|step| {
        !step.command.starts_with("cargo ") && !step.command.starts_with("export PATH=")
    });
    Ok(steps)
}

/// A shell with a network, a folder of mounts and a BPF file system of its own. Only the cgroup is
/// in the machine's hierarchy.
struct Shell {
    cgroup: PathBuf,
    folder: PathBuf,
}

/// The commands of the shell before those of the page. Mounts end with the shell.
const BEFORE: &str = "\
mount -t tmpfs tmpfs /run
mount -t bpf bpf /sys/fs/bpf
ip link set lo up
exec 2>&1
";

impl Shell {
    fn new(name: &str) -> Result<Self> {
        let name = format!("redirect-{name}-{}", id());
        let shell = Self {
            cgroup: unified_mount()?.join(&name),
            folder: env::temp_dir().join(name),
        };
        fs::create_dir(&shell.folder)?;
        Ok(shell)
    }

    /// Runs the steps one after the other, and compares what each prints.
    fn run(&self, steps: &[Step]) -> Result<()> {
        ensure!(!steps.is_empty(), "a page without a console");
        let cgroup = self.cgroup.file_name().context("a cgroup has a name")?;
        let cgroup = cgroup.to_str().context("a name is text")?;
        let mut script = BEFORE.to_owned();
        for (number, step) in steps.iter().enumerate() {
            let command = step.command.replace(SHOWN_CGROUP, cgroup);
            writeln!(script, "echo '{}'\n{command}", marker(number))?;
        }
        let programs = Path::new(PROGRAM).parent().context("a program's folder")?;
        let path = env::var("PATH")?;
        let output = Command::new("unshare")
            .args([
                "--net",
                "--mount",
                "--pid",
                "--fork",
                "--kill-child",
                "--mount-proc",
            ])
            .args(["bash", "-c", &script])
            .env("PATH", format!("{}:{path}", programs.display()))
            .current_dir(&self.folder)
            .output()?;
        let output = String::from_utf8(output.stdout)?;
        let output = output.replace(
            &self.cgroup.display().to_string(),
            "/sys/fs/cgroup/shop.service",
        );
        for (number, step) in steps.iter().enumerate() {
            let (_, rest) = output
                .split_once(&format!("{}\n", marker(number)))
                .with_context(|| format!("the shell did not reach `{}`: {output}", step.command))?;
            let printed = rest.split(&marker(number + 1)).next().unwrap_or_default();
            assert!(
                is_shown(&step.shown, printed),
                "`{}` shows\n{}\nand prints\n{printed}",
                step.command,
                step.shown.join("\n"),
            );
        }
        Ok(())
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // Programs that a failed page has left in the cgroup.
        drop(fs::write(self.cgroup.join("cgroup.kill"), "1"));
        for _ in 0..50 {
            if !self.cgroup.exists() || fs::remove_dir(&self.cgroup).is_ok() {
                break;
            }
            thread::sleep(Duration::from_millis(100));
        }
        drop(fs::remove_dir_all(&self.folder));
    }
}

fn marker(step: usize) -> String {
    format!("-- step {step} --")
}

/// Whether a command printed what the page shows below it.
///
/// The forwarder prints beside its command, so that the order of lines is not compared where it
/// runs.
fn is_shown(shown: &[String], printed: &str) -> bool {
    let mut shown: Vec<_> = shown.iter().map(|line| comparable(line)).collect();
    let mut printed: Vec<_> = printed.lines().map(comparable).collect();
    if shown.iter().any(|line| line.starts_with("proxy: ")) {
        shown.sort();
        printed.sort();
    }
    matches(&shown, &printed)
}

fn matches(shown: &[String], printed: &[String]) -> bool {
    match shown.split_first() {
        None => printed.is_empty(),
        Some((line, rest)) if line == LEFT_OUT => {
            (0..=printed.len()).any(|skip| matches(rest, printed.get(skip..).unwrap_or_default()))
        }
        Some((line, rest)) => printed
            .split_first()
            .is_some_and(|(first, others)| first == line && matches(rest, others)),
    }
}

/// A line without the width of its columns, and without the numbers that differ each time:
/// process ids, ports of clients, and the bytes that `curl` and the server happened to send.
fn comparable(line: &str) -> String {
    let forwarder = ["forwarded ", "blackholed "];
    let result = line.strip_prefix("proxy: ").unwrap_or(line);
    let connection = forwarder
        .iter()
        .any(|result_name| result.starts_with(result_name))
        && !result.contains(',');
    let mut words = Vec::new();
    for word in line.split_whitespace() {
        let client = connection && word.contains("10.77.0.1:") || word.contains("192.0.2.2:");
        let bytes = connection && word.bytes().all(|byte| byte.is_ascii_digit()) && word != "0";
        words.push(match word.split_once("pid:") {
            Some((before, _)) => format!("{before}pid:N"),
            None if client => "CLIENT".to_owned(),
            None if bytes => "BYTES".to_owned(),
            None => word.to_owned(),
        });
    }
    words.join(" ")
}

#[test]
fn the_tour_prints_what_it_shows() -> Result<()> {
    if let Some(reason) = missing_or_fail(NEEDS)? {
        println!("skipped: {reason}");
        return Ok(());
    }
    Shell::new("tour")?.run(&consoles("docs/tour.md", "Build", "The end")?)
}

#[test]
fn the_readme_prints_what_it_shows() -> Result<()> {
    if let Some(reason) = missing_or_fail(NEEDS)? {
        println!("skipped: {reason}");
        return Ok(());
    }
    let mut steps = consoles("docs/tour.md", "A service outside", "One command")?;
    steps.extend(consoles(
        "README.md",
        "First steps",
        "How it differs from iptables",
    )?);
    Shell::new("readme")?.run(&steps)
}
