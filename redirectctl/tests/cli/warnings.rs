//! Warnings about options that may not be meant, and messages about an unusual machine.

use redirect_testkit::cases;

use crate::{
    Cases,
    Needs::{Pods, PodsAnd},
    Tested,
    bad_input::assert_refused,
    ctl::{self, Args},
    scene::Scene,
};

pub(crate) const CASES: &[Cases] = cases! {
    Pods => [
        ports_without_a_listening_socket_are_warned_about,
        the_tables_show_shadow_mode_and_dns,
        explain_tells_processes_outside_and_shadow_mode,
    ],
    PodsAnd(&["unshare", "mount", "umount"]) => [a_hidden_cgroup_mount_is_explained],
};

fn ports_without_a_listening_socket_are_warned_about() -> Tested {
    let scene = Scene::new("unserved")?;
    let dns = ["-i", "*", "--redirect-dns", "--capture-all-dns"];
    let rows: [(Args<'_>, Args<'_>); 8] = [
        (&["attach", "-i", "*"], &[]),
        (&["update", "-i", "*", "-p", "15009"], &["TCP port 15009"]),
        (&["update", "-q", "80", "-p", "15009"], &["TCP port 15009"]),
        // No outbound connection is redirected, so no listening socket is missing.
        (&["update", "-p", "15009"], &[]),
        (&["update", "-i", "*", "-b", "*"], &[]),
        (
            &["update", "-i", "*", "-b", "80", "-z", "15010"],
            &["TCP port 15010"],
        ),
        (
            &[&["update"], &dns[..]].concat(),
            &["TCP port 15053", "UDP port 15053"],
        ),
        (&["update", "-i", "*", "-p", "15009", "--shadow"], &[]),
    ];
    for (args, expected) in rows {
        let ran = scene.ctl.run(&scene.with_cgroup(args));
        assert_eq!(ran.status, Some(0), "{ran:?}");
        let lines = ran.stderr.lines();
        let lines: Vec<_> = lines
            .filter(|line| line.contains("no socket listens"))
            .collect();
        assert_eq!(lines.len(), expected.len(), "{ran:?}");
        for (line, port) in lines.iter().zip(expected) {
            assert!(line.contains(port), "{ran:?}");
        }
    }
    Ok(())
}

fn the_tables_show_shadow_mode_and_dns() -> Tested {
    let scene = Scene::new("told")?;
    let line = |text: &str, first: &str| {
        let line = text.lines().find(|line| line.starts_with(first));
        line.unwrap_or_else(|| panic!("no {first}: {text}"))
            .to_owned()
    };
    let seen = || {
        let list = scene.ctl.ok(&["list"]);
        let mut rows = list.lines().filter(|row| row.ends_with(scene.cgroup()));
        let mode = rows.next().and_then(|row| row.split_whitespace().nth(1));
        (
            mode.unwrap_or_default().to_owned(),
            line(&scene.ok(&["show"]), "DNS queries"),
        )
    };
    scene.ok(&["attach", "-i", "*"]);
    let (mode, dns) = seen();
    assert_eq!(mode, "redirect");
    assert!(dns.ends_with("left alone"), "{dns}");

    scene.ok(&[
        "update",
        "-i",
        "*",
        "--shadow",
        "--redirect-dns",
        "--dns-servers",
        "10.96.0.10",
    ]);
    let (mode, dns) = seen();
    assert_eq!(mode, "shadow");
    assert!(dns.ends_with("to port 15053, of 10.96.0.10"), "{dns}");

    scene.ok(&["update", "-i", "*", "--redirect-dns", "--capture-all-dns"]);
    let (mode, dns) = seen();
    assert_eq!(mode, "redirect");
    assert!(dns.contains("of any resolver"), "{dns}");
    Ok(())
}

fn explain_tells_processes_outside_and_shadow_mode() -> Tested {
    let scene = Scene::new("outside")?;
    let explain = |pid: u32| {
        let pid = pid.to_string();
        let args = ["explain", "--pid", &pid, "--dst", "36.152.44.96:80"];
        let ran = scene.ctl.run(&scene.with_cgroup(&args));
        assert_eq!(ran.status, Some(0), "{ran:?}");
        (ran.stdout, ran.stderr)
    };
    scene.ok(&["attach", "-i", "*"]);
    let (text, warnings) = explain(scene.app.pid());
    assert_eq!(warnings, "");
    assert!(text.contains("goes to     127.0.0.1:15001\n"), "{text}");
    let (_, warnings) = explain(std::process::id());
    assert!(warnings.contains("is not in this cgroup"), "{warnings}");

    scene.ok(&["update", "-i", "*", "--shadow"]);
    let (text, _) = explain(scene.app.pid());
    let expected = "goes to     36.152.44.96:80 (shadow mode: would go to 127.0.0.1:15001)\n";
    assert!(text.contains(expected), "{text}");
    Ok(())
}

/// The mounts are as after `ip netns exec`.
fn a_hidden_cgroup_mount_is_explained() -> Tested {
    let scene = Scene::new("hidden")?;
    let hide = "umount --lazy /sys && mount -t sysfs sysfs /sys && exec \"$@\"";
    let argv = scene.ctl.argv(&scene.with_cgroup(&["attach", "-i", "*"]));
    let hidden = ["unshare", "--mount", "sh", "-c", hide, "sh"];
    let ran = ctl::run(&[&hidden[..], &argv].concat(), &[], "");
    assert_refused(&ran, 1, &["open cgroup", "ip netns exec", "nsenter --net="]);
    Ok(())
}
