//! What is done, with a word on what may not have been meant; and what a person is told where the
//! machine is not as expected.

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
        ports_at_which_nobody_listens_are_told,
        the_tables_show_shadow_mode_and_dns,
    ],
    PodsAnd(&["unshare", "mount", "umount"]) => [a_hidden_cgroup_mount_is_told],
};

fn ports_at_which_nobody_listens_are_told() -> Tested {
    let scene = Scene::new("unserved")?;
    let dns = ["-i", "*", "--redirect-dns", "--capture-all-dns"];
    let rows: [(Args<'_>, Args<'_>); 8] = [
        (&["attach", "-i", "*"], &[]),
        (&["update", "-i", "*", "-p", "15009"], &["TCP port 15009"]),
        (&["update", "-q", "80", "-p", "15009"], &["TCP port 15009"]),
        // Nothing outbound is redirected, and what is not is not missed.
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
    for (args, told) in rows {
        let ran = scene.ctl.run(&scene.about(args));
        assert_eq!(ran.status, Some(0), "{ran:?}");
        let lines = ran.stderr.lines();
        let lines: Vec<_> = lines
            .filter(|line| line.contains("no socket listens"))
            .collect();
        assert_eq!(lines.len(), told.len(), "{ran:?}");
        for (line, port) in lines.iter().zip(told) {
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
        let mode = rows.next().and_then(|row| row.split_whitespace().next());
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

/// As `ip netns exec` leaves it.
fn a_hidden_cgroup_mount_is_told() -> Tested {
    let scene = Scene::new("hidden")?;
    let hide = "umount --lazy /sys && mount -t sysfs sysfs /sys && exec \"$@\"";
    let argv = scene.ctl.argv(&scene.about(&["attach", "-i", "*"]));
    let hidden = ["unshare", "--mount", "sh", "-c", hide, "sh"];
    let ran = ctl::run(&[&hidden[..], &argv].concat(), &[], "");
    assert_refused(&ran, 1, &["open cgroup", "ip netns exec", "nsenter --net="]);
    Ok(())
}
