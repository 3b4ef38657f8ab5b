//! What cannot be done is refused: one message that says what, where and what to do, the documented
//! status, and nothing changed.

mod pods;
mod usage;
mod values;

use redirect_testkit::{cases, unified_mount};

use crate::{
    Cases,
    Needs::Pods,
    Tested,
    ctl::{Ctl, Ran, TempFile},
    scene::Scene,
};

pub(crate) const CASES: &[Cases] = cases! {
    Pods => [
        bad_command_lines_are_usage_errors,
        bad_values_are_named,
        bad_variables_are_named,
        bad_cgroups_are_named,
        bad_pods_are_named,
        bad_files_are_named_with_their_line,
    ],
};

/// A command line, and what standard error must contain. `POD` stands for an attached cgroup,
/// `FREE` for one that is not.
type Row<'a> = (&'a [&'a str], &'a [&'a str]);

/// One attached pod, and a second cgroup that is not.
struct Bench {
    scene: Scene,
    free: redirect_testkit::Cgroup,
}

impl Bench {
    fn new(name: &str) -> anyhow::Result<Self> {
        let scene = Scene::new(name)?;
        scene.ok(&["attach", "-i", "*", "-x", "10.0.0.0/8"]);
        let free = scene.pod.second_cgroup("free")?;
        Ok(Self { scene, free })
    }

    fn args<'a>(&'a self, args: &[&'a str]) -> Vec<&'a str> {
        let free = self.free.path().to_str().unwrap();
        let fill = |word: &&'a str| match *word {
            "POD" => self.scene.cgroup(),
            "FREE" => free,
            other => other,
        };
        args.iter().map(fill).collect()
    }

    fn refuses(&self, rows: &[Row<'_>], status: i32) {
        for (args, expected) in rows {
            self.refuses_one(&[], args, expected, status);
        }
    }

    fn refuses_one(
        &self,
        variables: &[(&str, &str)],
        args: &[&str],
        expected: &[&str],
        status: i32,
    ) {
        let ctl = &self.scene.ctl;
        let before = state(ctl);
        let ran = ctl.run_with(&self.args(args), variables);
        assert_refused(&ran, status, expected);
        assert_eq!(state(ctl), before, "{} changed something", ran.line);
    }
}

fn state(ctl: &Ctl) -> (String, Vec<String>) {
    (ctl.ok(&["list", "--output", "json"]), ctl.tree())
}

/// One message with these parts, and nothing that only a developer wants to see.
#[track_caller]
pub(crate) fn assert_refused(ran: &Ran, status: i32, expected: &[&str]) {
    assert_eq!(ran.status, Some(status), "{ran:?}");
    assert_eq!(ran.stderr.matches("error:").count(), 1, "{ran:?}");
    assert!(
        ran.stderr.starts_with("error: ") && ran.stdout.is_empty(),
        "{ran:?}"
    );
    for part in expected {
        assert!(ran.stderr.contains(part), "no {part:?}: {ran:?}");
    }
    for noise in ["panicked", "backtrace", "Caused by", "Some(", "Err("] {
        assert!(!ran.stderr.contains(noise), "{ran:?}");
    }
}

fn bad_command_lines_are_usage_errors() -> Tested {
    Bench::new("usage")?.refuses(usage::ROWS, 2);
    Ok(())
}

fn bad_values_are_named() -> Tested {
    let bench = Bench::new("values")?;
    for (flags, expected) in values::FLAGS {
        for command in [
            ["attach", "--cgroup", "FREE"],
            ["update", "--cgroup", "POD"],
        ] {
            bench.refuses_one(&[], &[&command, *flags].concat(), expected, 2);
        }
    }
    Ok(())
}

fn bad_variables_are_named() -> Tested {
    let bench = Bench::new("variables")?;
    for &(variable, value, expected) in values::VARIABLES {
        let named = format!("{variable} (environment)");
        let parts = [named.as_str(), expected];
        bench.refuses_one(
            &[(variable, value)],
            &["attach", "--cgroup", "FREE"],
            &parts,
            2,
        );
    }
    Ok(())
}

fn bad_cgroups_are_named() -> Tested {
    let bench = Bench::new("cgroups")?;
    let mount = unified_mount()?;
    let root = mount.to_str().unwrap();
    let procs = bench.free.path().join("cgroup.procs");
    let procs = procs.to_str().unwrap();
    let below = format!("give a folder below \"{root}\"");
    let cgroups: &[(&str, &[&str])] = &[
        (
            "/no/such",
            &["open cgroup \"/no/such\": there is no such folder", &below],
        ),
        (
            pods::FILE,
            &["Cargo.toml\": it is not a cgroup of version 2", &below],
        ),
        (
            "/proc",
            &[
                "open cgroup \"/proc\": it is not a cgroup of version 2",
                &below,
            ],
        ),
        (procs, &["cgroup.procs\": it is a file: give the folder"]),
        (root, &["it is the root cgroup", "give the pod's own"]),
    ];
    for (cgroup, expected) in cgroups {
        for command in ["attach", "update", "detach", "show"] {
            bench.refuses_one(&[], &[command, "--cgroup", cgroup], expected, 1);
        }
    }
    Ok(())
}

fn bad_pods_are_named() -> Tested {
    let bench = Bench::new("bad")?;
    bench.refuses(pods::ROWS, 1);
    let gone = format!("pid:{}", gone_pid());
    let attach = ["attach", "--cgroup", "FREE", "--netns", &gone];
    bench.refuses_one(&[], &attach, &["open network namespace", "No such file"], 1);
    Ok(())
}

fn bad_files_are_named_with_their_line() -> Tested {
    let bench = Bench::new("files")?;
    let ranges = TempFile::new("ranges", "# ours\n10.0.0.0/8\n\n10.0.0.0/99 # typo\n");
    let binary = TempFile::new("binary", b"10.0.0.0/8\n\xff\xfe\n");
    let registry = TempFile::new("registry", "10.0.0.1:80\n10.0.0.1:http\n");
    let proxy = ["proxy", "--mode", "registry-only", "--registry"];
    bench.refuses(
        &[
            (
                &["cidr", "replace", "--cgroup", "POD", "--file", "/no/such"],
                &["read \"/no/such\": No such file"],
            ),
            (
                &[
                    "cidr",
                    "replace",
                    "--cgroup",
                    "POD",
                    "--file",
                    ranges.path(),
                ],
                &[ranges.path(), "line 4: \"10.0.0.0/99\"", "0 to 32"],
            ),
            (
                &[
                    "cidr",
                    "replace",
                    "--cgroup",
                    "POD",
                    "--file",
                    binary.path(),
                ],
                &[binary.path(), "UTF-8"],
            ),
            (
                &["cidr", "replace", "--cgroup", "POD", "--file", "/proc"],
                &["read \"/proc\": Is a directory"],
            ),
            (
                &[&proxy[..], &["/no/such"]].concat(),
                &["read registry \"/no/such\": No such file"],
            ),
            (
                &[&proxy[..], &[registry.path()]].concat(),
                &[
                    registry.path(),
                    "line 2: \"10.0.0.1:http\"",
                    "write ADDRESS",
                ],
            ),
        ],
        1,
    );
    Ok(())
}

/// A process id that nobody has.
fn gone_pid() -> u32 {
    let max = std::fs::read_to_string("/proc/sys/kernel/pid_max").unwrap();
    max.trim().parse::<u32>().unwrap() + 1
}
