//! The tests, by the kind of input.

use redirect_testkit::unified_mount;

use super::{pods, refusal::InputScene, usage, values};
use crate::{Tested, ctl::TempFile};

pub(super) fn bad_command_lines_are_usage_errors() -> Tested {
    InputScene::new("usage")?.refuses(usage::ROWS, 2);
    Ok(())
}

pub(super) fn bad_values_are_named() -> Tested {
    let input = InputScene::new("values")?;
    for (flags, expected) in values::FLAGS {
        for command in [
            ["attach", "--cgroup", "FREE"],
            ["update", "--cgroup", "POD"],
        ] {
            input.refuses_one(&[], &[&command, *flags].concat(), expected, 2);
        }
    }
    Ok(())
}

pub(super) fn bad_variables_are_named() -> Tested {
    let input = InputScene::new("variables")?;
    for &(variable, value, expected) in values::VARIABLES {
        let named = format!("{variable} (environment)");
        let parts = [named.as_str(), expected];
        input.refuses_one(
            &[(variable, value)],
            &["attach", "--cgroup", "FREE"],
            &parts,
            2,
        );
    }
    Ok(())
}

pub(super) fn bad_cgroups_are_named() -> Tested {
    let input = InputScene::new("cgroups")?;
    let mount = unified_mount()?;
    let root = mount.to_str().unwrap();
    let procs = input.free.path().join("cgroup.procs");
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
            input.refuses_one(&[], &[command, "--cgroup", cgroup], expected, 1);
        }
    }
    Ok(())
}

pub(super) fn bad_pods_are_named() -> Tested {
    let input = InputScene::new("bad")?;
    input.refuses(pods::ROWS, 1);
    let gone = format!("pid:{}", gone_pid());
    let attach = ["attach", "--cgroup", "FREE", "--netns", &gone];
    input.refuses_one(&[], &attach, &["open network namespace", "No such file"], 1);
    Ok(())
}

pub(super) fn bad_files_are_named_with_their_line() -> Tested {
    let input = InputScene::new("files")?;
    let ranges = TempFile::new("ranges", "# ours\n10.0.0.0/8\n\n10.0.0.0/99 # typo\n");
    let binary = TempFile::new("binary", b"10.0.0.0/8\n\xff\xfe\n");
    let registry = TempFile::new("registry", "10.0.0.1:80\n10.0.0.1:http\n");
    let proxy = ["proxy", "--mode", "registry-only", "--registry"];
    input.refuses(
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

/// A process id that no process has.
fn gone_pid() -> u32 {
    let max = std::fs::read_to_string("/proc/sys/kernel/pid_max").unwrap();
    max.trim().parse::<u32>().unwrap() + 1
}
