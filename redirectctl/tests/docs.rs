//! The documentation agrees with the code: its generated tables are current, its commands parse, its links lead
//! somewhere, and the documented JSON is the printed JSON.
#![expect(
    clippy::disallowed_methods,
    clippy::panic_in_result_fn,
    reason = "a test runs programs, and fails by panicking"
)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{self, Command},
};

use anyhow::{Context as _, Result, anyhow, bail};
use redirect_common::hooks::Hook;
use redirect_testkit::{missing_or_fail, unified_mount};
use redirect_user::{
    node::{
        AddressChange, Fault, FollowEvent, FollowEventKind, ForeignProgram, MissingProgram,
        PodShadow, ShadowDiff, ShadowFindings,
    },
    sys::netns::NetnsRef,
};
use redirectctl::{
    cli::command,
    docs::{BLOCKS, REGENERATE, markers, refresh},
    kernels::{FILES, Results},
    proxy::{Ending, Record, Totals},
};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_redirectctl");

fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_owned()
}

/// The pages: path and text.
fn pages() -> Result<Vec<(PathBuf, String)>> {
    let mut paths = vec![root().join("README.md"), root().join("CONTRIBUTING.md")];
    for entry in fs::read_dir(root().join("docs"))? {
        paths.push(entry?.path());
    }
    paths.retain(|path| path.extension().is_some_and(|kind| kind == "md"));
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Ok((path, text))
    };
    paths.into_iter().map(read).collect()
}

#[test]
fn generated_tables_are_current() -> Result<()> {
    let pages = pages()?;
    for (path, text) in &pages {
        let path = path.display();
        assert!(
            *text == refresh(text),
            "{path} is out of date: run `{REGENERATE}`"
        );
    }
    for (name, _) in BLOCKS {
        let (open, close) = markers(name);
        let places = pages
            .iter()
            .filter(|(_, text)| text.contains(&open) && text.contains(&close));
        assert_eq!(places.count(), 1, "pages with the block {name:?}");
    }
    Ok(())
}

#[test]
fn the_results_of_every_kernel_are_complete() {
    let hooks = Hook::ALL.into_iter().chain([Hook::SkLookup]);
    let expected: Vec<_> = hooks.map(Hook::program).collect();
    for text in FILES {
        let results = Results::read(text);
        let programs = results.programs.iter();
        let programs: Vec<_> = programs.map(|(name, _, _)| *name).collect();
        let remedy = "run `cargo xtask test --kernel 5.10,newest --record`";
        assert_eq!(programs, expected, "{}: {remedy}", results.release);
        let passed = results.passed.parse::<u32>().unwrap_or_default();
        assert!(passed >= 20, "{}: {remedy}: {passed}", results.release);
    }
}

#[test]
fn the_readme_is_read_in_one_sitting() -> Result<()> {
    let lines = fs::read_to_string(root().join("README.md"))?
        .lines()
        .count();
    assert!(lines <= 150, "README.md has {lines} lines; docs/ has room");
    Ok(())
}

#[test]
fn every_suite_is_in_the_table_of_suites() -> Result<()> {
    let page = fs::read_to_string(root().join("CONTRIBUTING.md"))?;
    let rows: Vec<_> = page.lines().filter(|line| line.starts_with("| ")).collect();
    let mut suites = 0;
    for package in fs::read_dir(root())?.flatten() {
        for folder in ["tests", "benches"] {
            let Ok(entries) = fs::read_dir(package.path().join(folder)) else {
                continue;
            };
            for entry in entries.flatten() {
                let path = entry.path();
                if path.is_dir() && !path.join("main.rs").is_file() {
                    continue;
                }
                let suite = path.file_stem().context("a name")?.to_string_lossy();
                let package = package.file_name().to_string_lossy().into_owned();
                let is_row = |row: &&&str| {
                    row.contains(&format!("`{suite}`"))
                        && (folder == "benches" || row.contains(&format!("`{package}`")))
                };
                let found = rows.iter().filter(is_row).count();
                assert_eq!(found, 1, "CONTRIBUTING.md: rows of {package}: {suite}");
                suites += 1;
            }
        }
    }
    assert!(suites > 10, "{suites} suites found");
    Ok(())
}

/// The lines of fenced and indented code.
fn code_lines(text: &str) -> Vec<&str> {
    let (mut fenced, mut lines) = (false, Vec::new());
    for line in text.lines() {
        if line.starts_with("```") {
            fenced = !fenced;
        } else if fenced || line.starts_with("    ") {
            lines.push(line.trim());
        }
    }
    lines
}

/// The words of a command line. Of a shell's syntax it knows quotes, comments, and the end of a command.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), None::<String>, false);
    for letter in line.chars() {
        match letter {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' if !quoted => words.extend(word.take()),
            '#' if !quoted && word.is_none() => break,
            '|' | '>' | '&' | ';' if !quoted => break,
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

#[test]
fn commands_in_the_documentation_parse() -> Result<()> {
    let mut count = 0;
    for (path, text) in pages()? {
        for line in code_lines(&text) {
            let line = line.strip_prefix("$ ").unwrap_or(line);
            let line = line.strip_prefix("within ").unwrap_or(line);
            if !line.starts_with("redirectctl ") {
                continue;
            }
            count += 1;
            // An array of the shell with a whole list of options.
            let words = words(line)
                .into_iter()
                .filter(|word| !word.contains("OPTIONS"));
            if let Err(error) = command().try_get_matches_from(words) {
                bail!("{}: `{line}`: {error}", path.display());
            }
        }
    }
    assert!(count > 10, "only {count} commands found");
    Ok(())
}

/// The targets of `[text](target)`, outside of code.
fn links(text: &str) -> Vec<&str> {
    let starts = text.match_indices("](");
    starts
        .filter_map(|(at, open)| text.get(at + open.len()..)?.split_once(')'))
        .map(|(target, _)| target)
        .filter(|target| !target.contains("://"))
        .collect()
}

/// The anchor of a heading in links.
fn anchor(heading: &str) -> String {
    let kept = heading
        .chars()
        .filter(|c| c.is_alphanumeric() || *c == ' ' || *c == '-');
    kept.collect::<String>()
        .trim()
        .to_lowercase()
        .replace(' ', "-")
}

/// The text of all source files below a folder.
fn sources(folder: &Path) -> Result<String> {
    let mut text = String::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            text += &sources(&path)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text += &fs::read_to_string(&path)?;
        }
    }
    Ok(text)
}

#[test]
fn every_corner_has_a_test() -> Result<()> {
    let folders = [
        "redirect-common",
        "redirect-iptables",
        "redirect-user",
        "redirectctl",
    ];
    let folders: Result<Vec<_>> = folders
        .iter()
        .map(|folder| sources(&root().join(folder)))
        .collect();
    let code = folders?.concat();
    let page = fs::read_to_string(root().join("docs/traps.md"))?;
    let mut corners = 0;
    for row in page.lines().filter(|line| line.starts_with("| ")) {
        let Some(shown_by) = row.split(" | ").nth(3).filter(|cell| cell.contains('`')) else {
            continue;
        };
        corners += 1;
        for name in shown_by.split('`').skip(1).step_by(2) {
            let function = format!("fn {name}(");
            assert!(code.contains(&function), "docs/traps.md: no test `{name}`");
        }
    }
    assert_eq!(corners, 26, "each row names a test");
    Ok(())
}

#[test]
fn links_lead_somewhere() -> Result<()> {
    for (path, text) in pages()? {
        for target in links(&text) {
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let to = match file {
                "" => path.clone(),
                _ => path.parent().context("a page is in a folder")?.join(file),
            };
            assert!(to.exists(), "{}: link to {target}", path.display());
            if !heading.is_empty() {
                let page = fs::read_to_string(&to)?;
                let mut headings = page.lines().filter(|line| line.starts_with('#'));
                let found = headings.any(|line| anchor(line.trim_start_matches('#')) == heading);
                assert!(found, "{}: link to {target}", path.display());
            }
        }
    }
    Ok(())
}

/// The fields that docs/json.md lists under a heading.
fn documented(heading: &str) -> Result<BTreeSet<String>> {
    let page = fs::read_to_string(root().join("docs/json.md"))?;
    let start = format!("\n## {heading}\n");
    let (_, section) = page
        .split_once(&start)
        .with_context(|| format!("no heading {heading:?}"))?;
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let mut fields: BTreeSet<_> = rows.map(|(field, _)| field.to_owned()).collect();
    // One table has the options, which several results contain.
    if fields.remove("config") {
        fields.extend(
            documented("config")?
                .iter()
                .map(|field| format!("config.{field}")),
        );
    }
    Ok(fields)
}

/// The fields of a value, by the paths that docs/json.md uses.
fn fields(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                let dot = if path.is_empty() { "" } else { "." };
                fields(value, &format!("{path}{dot}{name}"), found);
            }
        }
        Value::Array(list) if list.iter().any(Value::is_object) || path.is_empty() => {
            for value in list {
                fields(value, &format!("{path}[]"), found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            found.insert(path.to_owned());
        }
    }
}

fn assert_documented(heading: &str, value: &Value) -> Result<()> {
    let mut found = BTreeSet::new();
    fields(value, "", &mut found);
    assert_eq!(
        found,
        documented(heading)?,
        "docs/json.md, {heading}: printed and documented"
    );
    Ok(())
}

#[test]
fn the_json_of_the_proxy_is_documented() -> Result<()> {
    let address = "10.0.0.2:40112".parse()?;
    let record = Record {
        ending: Ending::Forwarded,
        peer: address,
        original_destination: None,
        sent: 0,
        received: 0,
        reason: None,
    };
    assert_documented("proxy", &serde_json::to_value(&record)?)?;
    assert_documented(
        "proxy, at its end",
        &serde_json::to_value(Totals::default())?,
    )
}

#[test]
fn the_json_of_shadow_mode_is_documented() -> Result<()> {
    let difference = ShadowDiff {
        dst: "10.0.0.2:80".parse()?,
        rule: "any-included",
        decided: Some(15001),
        real: None,
        times: 1,
    };
    let found = ShadowFindings {
        agreed: 0,
        differed: 1,
        unknown: 0,
        differences: vec![difference],
    };
    let pod = PodShadow {
        cgroup: None,
        cgroup_id: 1,
        found,
    };
    assert_documented(
        "status, a cgroup in shadow mode",
        &serde_json::to_value(pod)?,
    )
}

#[test]
fn the_json_of_health_is_documented() -> Result<()> {
    let missing = MissingProgram {
        hook: Hook::Connect4,
        reason: Fault::NoLink,
    };
    assert_documented("a missing program", &serde_json::to_value(missing)?)?;
    let foreign = ForeignProgram {
        hook: Hook::Connect4,
        program: "theirs".to_owned(),
        id: 7,
    };
    assert_documented("a program of others", &serde_json::to_value(foreign)?)
}

#[test]
fn the_json_of_follow_is_documented() -> Result<()> {
    for kind in [
        FollowEventKind::Followed(NetnsRef::Pid(7)),
        FollowEventKind::Unseen,
        FollowEventKind::Changed(AddressChange::default()),
        FollowEventKind::Failed(anyhow!("no")),
        FollowEventKind::Gone,
    ] {
        let cgroup = Path::new("/sys/fs/cgroup/pod");
        let event = FollowEvent { cgroup, kind };
        assert_documented("follow", &serde_json::to_value(&event)?)?;
    }
    Ok(())
}

/// A cgroup, a state directory and a file of rules, all removed at the end.
struct Fixture {
    cgroup: PathBuf,
    state_dir: PathBuf,
    rules: PathBuf,
}

/// Rules of a sidecar, with one that no option expresses.
const RULES: &str = "\
*nat
:ISTIO_OUTPUT - [0:0]
:ISTIO_IN_REDIRECT - [0:0]
-A OUTPUT -j ISTIO_OUTPUT
-A ISTIO_OUTPUT -o lo -p tcp -m owner --uid-owner 1337 -j ISTIO_IN_REDIRECT
-A ISTIO_OUTPUT -p udp -m addrtype --dst-type LOCAL -j RETURN
COMMIT
";

impl Fixture {
    fn new() -> Result<Self> {
        let name = format!("redirect-docs-{}", process::id());
        let fixture = Self {
            cgroup: unified_mount()?.join(&name),
            state_dir: Path::new("/sys/fs/bpf").join(&name),
            rules: std::env::temp_dir().join(name),
        };
        fs::create_dir(&fixture.cgroup)?;
        fs::write(&fixture.rules, RULES)?;
        Ok(fixture)
    }

    /// The JSON of a command. `CGROUP` stands for the option --cgroup, `RULES` for the file of rules.
    fn json(&self, line: &str) -> Result<Value> {
        let mut command = Command::new(PROGRAM);
        command
            .args(["--output", "json", "--bpffs"])
            .arg(&self.state_dir);
        for word in words(line) {
            match word.as_str() {
                "CGROUP" => command.arg("--cgroup").arg(&self.cgroup),
                "RULES" => command.arg(&self.rules),
                word => command.arg(word),
            };
        }
        let output = command.output()?;
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        serde_json::from_slice(&output.stdout).with_context(|| format!("{line}: {complaint}"))
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let removed = self.json("uninstall --yes").map(drop);
        removed
            .and(fs::remove_dir(&self.cgroup).map_err(Into::into))
            .and(fs::remove_file(&self.rules).map_err(Into::into))
            .unwrap_or_else(|error| {
                // A panic here would hide the one that failed the test.
                drop(error);
            });
    }
}

/// The headings of docs/json.md, each with a command whose output is described there.
const COMMANDS: &[(&str, &str)] = &[
    ("attach", "attach CGROUP -u 1337 -i '*' -x 10.0.0.0/8 -o 22"),
    (
        "update",
        "update CGROUP -u 1337 -i 10.0.0.0/8 -q 80,8000:9000",
    ),
    (
        "cidr add, cidr del, cidr replace",
        "cidr add CGROUP 36.152.44.0/24",
    ),
    (
        "cidr add, cidr del, cidr replace",
        "cidr replace CGROUP 36.152.44.0/25",
    ),
    (
        "cidr add, cidr del, cidr replace",
        "cidr del CGROUP 36.152.44.0/25",
    ),
    ("cidr list", "cidr list CGROUP --list include"),
    ("list", "list"),
    ("show", "show CGROUP"),
    ("rules", "rules CGROUP"),
    (
        "rules",
        "rules -i '*' -x 10.0.0.0/8 -b '*' --format iptables",
    ),
    ("import", "import RULES"),
    ("parity", "parity -i '*' --rules RULES"),
    ("status", "status"),
    ("explain", "explain CGROUP --uid 1000 --dst 36.152.44.96:80"),
    (
        "explain",
        "explain CGROUP --uid 1337 --dst 127.0.0.5:443 --src 127.0.0.6",
    ),
    ("doctor", "doctor"),
    ("upgrade", "upgrade"),
    ("detach", "detach CGROUP"),
    ("uninstall", "uninstall --yes"),
];

#[test]
fn the_json_of_every_command_is_documented() -> Result<()> {
    if missing_or_fail(&[])?.is_some() {
        return Ok(());
    }
    let fixture = Fixture::new()?;
    for (heading, line) in COMMANDS {
        let value = fixture.json(line)?;
        assert_documented(heading, &value).with_context(|| line.to_owned())?;
    }
    // The list has every command with a JSON result.
    let tried: BTreeSet<_> = COMMANDS
        .iter()
        .filter_map(|(_, line)| line.split(' ').next())
        .collect();
    for sub in command().get_subcommands() {
        let name = sub.get_name();
        let other = ["exec", "completions", "follow", "proxy", "log"].contains(&name);
        assert!(
            other || tried.contains(name),
            "`{name} --output json` is not checked"
        );
    }
    Ok(())
}
