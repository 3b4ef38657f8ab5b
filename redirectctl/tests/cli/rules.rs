//! `redirectctl rules`: rules of pods and of options, and both formats.

use redirect_testkit::cases;
use serde_json::Value;

use crate::{
    Cases,
    Needs::{Nothing, Pods},
    Tested,
    bad_input::assert_refused,
    ctl::{self, BINARY, CommandOutput, Ctl},
    scene::Scene,
};

pub(crate) const CASES: &[Cases] = cases! {
    Pods => [
        the_rules_of_a_pod_have_its_values_and_hits,
        rules_that_an_update_removed_keep_their_hits,
        a_pods_rules_are_those_of_its_options,
        a_pod_whose_ipv6_is_left_alone_has_no_ipv6_rules,
    ],
    Nothing => [
        rules_of_options_need_no_pod_and_no_privilege,
        long_lists_are_counted_without_the_option_all,
        rules_take_a_pod_or_options,
    ],
};

fn run(args: &[&str]) -> CommandOutput {
    ctl::run(&[&[BINARY, "rules"], args].concat(), &[], "")
}

/// The cells of the first row of a rule.
fn row<'a>(table: &'a str, rule: &str) -> Vec<&'a str> {
    let mut rows = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.find(|cells| cells.contains(&rule))
        .unwrap_or_else(|| panic!("no {rule}: {table}"))
}

fn a_pod_whose_ipv6_is_left_alone_has_no_ipv6_rules() -> Tested {
    let scene = Scene::new("rules-ipv6")?;
    let attached = scene
        .ctl
        .run(&["attach", "--cgroup", scene.cgroup(), "-i", "*"]);
    assert!(attached.stderr.contains("--dual-stack"), "{attached:?}");
    let [service4, service6, ..] = scene.answers()?;
    assert_eq!((service4.as_str(), service6.as_str()), ("proxy", "world"));
    let table = scene.ok(&["rules"]);
    assert_eq!(
        row(&table, "ipv6-off")[..4],
        ["2", "direct", "ipv6-off", "6"]
    );
    let of_ipv6 = table.lines().filter(|line| line.contains("::"));
    assert_eq!(of_ipv6.count(), 0, "{table}");
    let format = |args: &[&str]| scene.ok(&[&["rules", "--format", "iptables"], args].concat());
    assert_eq!(format(&["--family", "6"]), "");
    assert_eq!(format(&["--family", "both"]), format(&["--family", "4"]));
    let shown = scene.ok(&["show"]);
    assert!(
        shown.contains("left alone: the pod's first address is not IPv6"),
        "{shown}"
    );

    scene.ok(&["update", "-i", "*"]);
    let [_, service6, ..] = scene.answers()?;
    assert_eq!(service6, "proxy");
    assert!(format(&["--family", "6"]).contains("::1/128"));
    let shown = scene.ok(&["show"]);
    assert!(
        shown.contains("redirected: an address of the pod is IPv6"),
        "{shown}"
    );
    Ok(())
}

fn the_rules_of_a_pod_have_its_values_and_hits() -> Tested {
    let scene = Scene::new("rules-pod")?;
    let missing = scene.ctl.run(&scene.with_cgroup(&["rules"]));
    assert_refused(&missing, 1, &["nothing is attached"]);
    scene.ok(&["attach", "-u", "4711", "-i", "*", "-x", "36.152.44.0/24"]);
    scene.answers()?;
    let table = scene.ok(&["rules"]);
    assert_eq!(
        row(&table, "cidr-excluded"),
        "1 direct cidr-excluded 4 -A ISTIO_OUTPUT -d 36.152.44.0/24 -j RETURN"
            .split(' ')
            .collect::<Vec<_>>()
    );
    assert_eq!(row(&table, "any-included")[..2], ["3", "out"]);
    assert!(
        table.contains("--uid-owner 4711 ") && !table.contains("1337"),
        "{table}"
    );
    let shown = scene.ctl.json(&scene.with_cgroup(&["show"]));
    let rules = scene.ctl.json(&scene.with_cgroup(&["rules"]));
    for rule in rules["rules"].as_array().unwrap() {
        let named = |shown: &&Value| shown["rule"] == rule["rule"];
        let same = shown["rules"].as_array().unwrap().iter().find(named);
        assert_eq!(same.unwrap()["hits"], rule["hits"], "{rule}");
    }
    Ok(())
}

fn rules_that_an_update_removed_keep_their_hits() -> Tested {
    let scene = Scene::new("rules-former")?;
    scene.ok(&["attach", "-i", "*"]);
    scene.answers()?;
    scene.ok(&["update", "-q", "1"]);
    let table = scene.ok(&["rules"]);
    assert_eq!(
        row(&table, "any-included"),
        "4 out any-included both (before the last update)"
            .split(' ')
            .collect::<Vec<_>>()
    );
    Ok(())
}

fn a_pods_rules_are_those_of_its_options() -> Tested {
    let scene = Scene::new("rules-text")?;
    let options = [
        "-u",
        "4711",
        "-g",
        "4712",
        "-i",
        "10.0.0.0/8,fd00::/8",
        "-x",
        "10.1.0.0/16",
        "-q",
        "80,443",
        "-o",
        "22",
        "-z",
        "15016",
    ];
    scene.ok(&[&["attach"], &options[..]].concat());
    for family in ["4", "6", "both"] {
        let form = ["--format", "iptables", "--family", family];
        let ran = scene
            .ctl
            .run(&scene.with_cgroup(&[&["rules"], &form[..]].concat()));
        let of_options = run(&[&form, &options[..]].concat()).ok();
        assert_eq!(ran.ok(), of_options);
        let tables = of_options.matches("* nat\n").count();
        assert_eq!(tables, if family == "both" { 2 } else { 1 });
    }
    Ok(())
}

#[expect(clippy::unnecessary_wraps, reason = "all tests have one type")]
fn rules_of_options_need_no_pod_and_no_privilege() -> Tested {
    let ctl = Ctl::new("rules-options");
    let table = ctl.ok(&["rules", "-i", "*", "-o", "22"]);
    assert!(table.starts_with("VERDICT  RULE "), "{table}");
    assert!(table.contains("-p udp --dport 22 -j RETURN\n"), "{table}");
    assert_eq!(ctl.tree(), Vec::<String>::new());
    let inbound = run(&["-b", "*", "-d", "15020", "--format", "iptables"]);
    let text = inbound.ok();
    assert!(
        text.contains("-A ISTIO_INBOUND -p tcp --dport 15020 -j RETURN\n"),
        "{text}"
    );
    let argv = [BINARY, "rules", "--format", "iptables"];
    let variables = [("ISTIO_SERVICE_CIDR", "10.0.0.0/8")];
    let text = ctl::run(&argv, &variables, "").ok();
    assert!(text.contains("-d 10.0.0.0/8 -j ISTIO_REDIRECT\n"), "{text}");
    Ok(())
}

#[expect(clippy::unnecessary_wraps, reason = "all tests have one type")]
fn long_lists_are_counted_without_the_option_all() -> Tested {
    let ranges: Vec<_> = (0..20).map(|n| format!("10.{n}.0.0/16")).collect();
    let ranges = ranges.join(",");
    let short = run(&["-x", &ranges]).ok();
    assert_eq!(short.matches(" -d 10.").count(), 8, "{short}");
    assert!(short.contains("… 20 in all (--all)\n"), "{short}");
    let all = run(&["-x", &ranges, "--all"]).ok();
    assert_eq!(all.matches(" -d 10.").count(), 20, "{all}");
    Ok(())
}

#[expect(clippy::unnecessary_wraps, reason = "all tests have one type")]
fn rules_take_a_pod_or_options() -> Tested {
    let both = run(&["--cgroup", "/sys/fs/cgroup", "-i", "*"]);
    assert_eq!(both.status, Some(2), "{both:?}");
    assert!(both.stderr.contains("leave out the others"), "{both:?}");
    assert_refused(&run(&["-k", "eth0"]), 2, &["--kube-virt-interfaces"]);
    Ok(())
}
