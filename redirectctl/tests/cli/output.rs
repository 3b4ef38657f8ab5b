//! The output: JSON with stable names, aligned tables, and commands that only read.

use std::{collections::BTreeSet, time::Duration};

use redirect_common::{abi::MapName, hooks::Hook};
use redirect_testkit::{Identity, WorkerCgroup, cases, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Deserializer, Value};

use crate::{
    Cases,
    Needs::Pods,
    Tested,
    ctl::{self, Args},
    scene::{SERVICE, Scene},
};

pub(crate) const CASES: &[Cases] = cases! {
    Pods => [
        json_has_stable_names,
        the_proxys_json_has_stable_names,
        tables_are_aligned,
        commands_named_by_nouns_only_read,
        a_closed_pipe_is_not_a_crash,
    ],
};

/// Every name in a value, as a path like `rules[].hits`.
fn names(value: &Value) -> String {
    let mut found = BTreeSet::new();
    collect(value, "", &mut found);
    found.into_iter().collect::<Vec<_>>().join(" ")
}

fn collect(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                collect(value, &format!("{path}.{name}"), found);
            }
        }
        Value::Array(items) => {
            for item in items {
                collect(item, &format!("{path}[]"), found);
            }
            if items.is_empty() {
                found.insert(format!("{path}[]"));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            found.insert(path.to_owned());
        }
    }
}

const CONFIG: &str = ".config.dns.capture_all .config.dns.redirect .config.dns.servers[] .config.dual_stack .config.exclude[] .config.exclude_interfaces[] .config.exclude_ports[] .config.in_port .config.inbound.exclude_ports[] \
    .config.inbound.include_ports[] .config.inbound.mode .config.include .config.include_ports[] .config.loopback4 .config.out_port \
    .config.owner_groups .config.owner_groups_exclude[] .config.proxy_gids[] \
    .config.proxy_uids[] .config.shadow .config.tunnel_port";

fn json_has_stable_names() -> Tested {
    let scene = Scene::new("json")?;
    let attached = format!(".cgroup .cgroup_id {CONFIG} .netns .warnings[]");
    let updated = format!(".cgroup .cgroup_id .changes[] {CONFIG} .netns .warnings[]");
    let shown = format!(
        ".cgroup .cgroup_id {CONFIG} .ipv6 .ipv6_reason .lost .netns_cookie .policy .refused .rules[].hits \
         .rules[].iptables .rules[].rule .rules[].verdict"
    );
    let removed = ".cgroups .foreign[] .pins";
    let attach = scene.with_cgroup(&["attach", "-i", "*", "-x", "10.0.0.0/8"]);
    let rows: &[(&[&str], &str)] = &[
        (&["list"], "[]"),
        (
            &["status"],
            ".bpffs .cgroups .current .damaged .handshakes .health[] .layout .loaded .lost .maps[] .other_layout .programs[] .refused \
             .shadows[] .stand_ins .stand_ins_max .version",
        ),
        (&["uninstall", "--yes"], removed),
        (&attach, &attached),
        (
            &scene.with_cgroup(&["update", "-i", "*", "-x", "10.0.0.0/8"]),
            &updated,
        ),
        (
            &scene.with_cgroup(&["cidr", "add", "11.0.0.0/8"]),
            ".added[] .removed[] .total",
        ),
        (
            &scene.with_cgroup(&["cidr", "del", "11.0.0.0/8"]),
            ".added[] .removed[] .total",
        ),
        (&scene.with_cgroup(&["cidr", "list"]), "[]"),
        (
            &["list"],
            "[].cgroup [].cgroup_id [].direct [].foreign[] [].lost [].missing[] [].netns_cookie [].policy [].ranges \
             [].redirected_dns [].redirected_in [].redirected_out [].refused [].shadow [].state",
        ),
        (&scene.with_cgroup(&["show"]), &shown),
        (
            &["status"],
            ".bpffs .cgroups .current .damaged .handshakes .health[] .layout .loaded .lost .maps[].bytes .maps[].map .other_layout \
             .programs[].instructions .programs[].program .programs[].purpose .programs[].verified \
             .refused .shadows[] .stand_ins .stand_ins_max .version",
        ),
        (
            &scene.with_cgroup(&["explain", "--uid", "1000", "--dst", "36.152.44.96:80"]),
            ".dst .earlier[].needs[] .earlier[].not_for[] .earlier[].rule .facts[] .gid .iptables .rule .shadow .src \
             .target .transport .uid .verdict",
        ),
        (&scene.with_cgroup(&["detach"]), ".cgroup .cgroup_id"),
        (&["uninstall", "--yes"], removed),
    ];
    for (args, expected) in rows {
        assert_eq!(names(&scene.ctl.json(args)), *expected, "{args:?}");
    }
    Ok(())
}

fn the_proxys_json_has_stable_names() -> Tested {
    let scene = Scene::new("proxyjson")?;
    scene.ok(&["attach", "-i", "*", "-p", "15009"]);
    let root = scene
        .pod
        .worker(&Identity::root().cgroup(WorkerCgroup::Proxy))?;
    let running = root.start(
        &scene
            .ctl
            .argv(&["proxy", "--listen", "15009", "--output", "json"]),
        "",
    )?;
    // The proxy listens once a connection through it is answered.
    assert!(wait_until(Duration::from_secs(10), || scene
        .server_at(SERVICE[0])
        .is_ok_and(|server| server == "world")));
    let log = || root.log(running).unwrap();
    assert!(
        wait_until(Duration::from_secs(10), || log().contains('}')),
        "{}",
        log()
    );
    kill_process(
        Pid::from_raw(i32::try_from(running.pid)?).unwrap(),
        Signal::TERM,
    )?;
    assert!(wait_until(Duration::from_secs(10), || !root
        .is_alive(running)
        .unwrap()));
    // The last output may still be in the pipe.
    wait_until(Duration::from_secs(10), || log().contains("\"blackholed\""));
    let log = log();
    let values: Vec<Value> = Deserializer::from_str(&log)
        .into_iter()
        .collect::<Result<_, _>>()?;
    let [listening, records @ .., totals] = values.as_slice() else {
        panic!("{log}")
    };
    assert_eq!(names(listening), ".listening", "{log}");
    assert_eq!(
        names(totals),
        ".blackholed .forwarded .loops .refused .unknown",
        "{log}"
    );
    assert_eq!(totals["forwarded"], records.len(), "{log}");
    for record in records {
        assert_eq!(
            names(record),
            ".original_destination .peer .reason .received .result .sent",
            "{log}"
        );
        assert_eq!(record["original_destination"], "36.152.44.96:80", "{log}");
    }
    Ok(())
}

fn tables_are_aligned() -> Tested {
    let scene = Scene::new("tables")?;
    let second = scene.pod.second_cgroup("with-a-longer-name")?;
    scene.ok(&["attach", "-i", "*"]);
    scene
        .ctl
        .ok(&["attach", "--cgroup", second.path().to_str().unwrap()]);
    scene.answers()?;
    let tables: &[(Args<'_>, &str, usize)] = &[
        (&["list"], "STATE", 2),
        (&["status"], "PROGRAM", Hook::ALL.len()),
        (&["status"], "MAP", MapName::ALL.len()),
        (&scene.with_cgroup(&["show"]), "RULE", 15),
        (&scene.with_cgroup(&["rules"]), "HITS", 15),
        (
            &scene.with_cgroup(&["explain", "--uid", "1000", "--dst", "36.152.44.96:80"]),
            "EARLIER RULE",
            13,
        ),
    ];
    for (args, first, rows) in tables {
        let text = scene.ctl.ok(args);
        assert!(!text.contains('\u{1b}') && text.ends_with('\n'), "{text}");
        let mut lines = text.lines().skip_while(|line| !line.starts_with(*first));
        let heading = lines.next().unwrap();
        let table: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
        assert_eq!(table.len(), *rows, "{text}");
        // A column begins after two blanks.
        let is_column =
            |at: &usize| heading.as_bytes()[*at] != b' ' && heading.get(at - 2..*at) == Some("  ");
        let columns: Vec<_> = (2..heading.len()).filter(is_column).collect();
        assert!(!columns.is_empty(), "{text}");
        for row in &table {
            assert_eq!(row.trim_end(), *row, "{text}");
            for at in columns.iter().copied() {
                let (left, right) = (
                    row.get(..at).unwrap_or_default(),
                    row.get(at..).unwrap_or_default(),
                );
                assert!(
                    left.ends_with("  ") && !right.starts_with(' '),
                    "column {at}: {row:?}\n{text}"
                );
            }
        }
    }
    Ok(())
}

fn commands_named_by_nouns_only_read() -> Tested {
    let scene = Scene::new("nouns")?;
    let nouns: &[&[&str]] = &[
        &["list"],
        &["status"],
        &scene.with_cgroup(&["show"]),
        &scene.with_cgroup(&["rules"]),
        &scene.with_cgroup(&["explain", "--uid", "1000", "--dst", "36.152.44.96:80"]),
        &scene.with_cgroup(&["cidr", "list"]),
    ];
    for args in nouns {
        // A command that needs a pod fails, and makes nothing.
        let status = i32::from(args.len() > 1);
        assert_eq!(scene.ctl.run(args).status, Some(status), "{args:?}");
        assert_eq!(scene.ctl.tree(), Vec::<String>::new());
    }
    scene.ok(&["attach", "-i", "*"]);
    let (tree, shown) = (scene.ctl.tree(), scene.ok(&["show"]));
    for args in nouns {
        let first = scene.ctl.ok(args);
        assert_eq!(scene.ctl.ok(args), first);
    }
    assert_eq!((scene.ctl.tree(), scene.ok(&["show"])), (tree, shown));
    Ok(())
}

fn a_closed_pipe_is_not_a_crash() -> Tested {
    let scene = Scene::new("pipe")?;
    scene.ok(&["attach", "-i", "*"]);
    let script = "{ \"$@\"; echo status $? >&2; } | true";
    for args in ["status", "list --output json", "--help", "completions zsh"] {
        let words: Vec<_> = args.split(' ').collect();
        let argv = [&["sh", "-c", script, "sh"], &scene.ctl.argv(&words)[..]].concat();
        let ran = ctl::run(&argv, &[], "");
        assert!(ran.stderr.contains("status "), "{ran:?}");
        assert!(
            !ran.stderr.contains("panicked") && !ran.stderr.contains("status 101"),
            "{ran:?}"
        );
    }
    Ok(())
}
