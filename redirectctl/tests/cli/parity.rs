//! `redirectctl import` and `redirectctl parity`, on pods with real iptables rules.

use std::time::Duration;

use anyhow::Result;
use redirect_testkit::{
    cases,
    iptables::{self, Backend, Family},
    wait_until,
};
use serde_json::Value;

use crate::{
    Cases,
    Needs::{Nothing, PodsAnd},
    Tested,
    bad_input::assert_refused,
    ctl::{self, BINARY, CommandOutput, TempFile},
    scene::Scene,
};

const PROGRAMS: &[&str] = &[
    "iptables-legacy-restore",
    "ip6tables-legacy-restore",
    "iptables-legacy-save",
    "ip6tables-legacy-save",
    "iptables-nft-restore",
    "ip6tables-nft-restore",
    "iptables-nft-save",
    "ip6tables-nft-save",
];

pub(crate) const CASES: &[Cases] = cases! {
    PodsAnd(PROGRAMS) => [
        a_pod_equals_the_rules_of_its_options,
        an_address_added_after_the_attach_is_named,
        a_changed_rule_is_shown_with_a_connection,
        imported_options_equal_the_rules,
        an_excluded_interface_is_shown_and_compared,
        shadow_findings_are_part_of_the_comparison,
        rules_that_are_not_understood_are_undecided,
    ],
    Nothing => [
        texts_are_compared_without_a_pod,
        a_text_that_is_not_rules_is_refused,
    ],
};

/// The options of a sidecar, with one of every kind.
const OPTIONS: &[&str] = &[
    "-u",
    "1337,4711",
    "-g",
    "1337",
    "-i",
    "0.0.0.0/1,198.51.100.0/24,2001:db8::/33",
    "-x",
    "36.152.44.0/24,2001:db8::96/128",
    "-q",
    "8443",
    "-o",
    "22,9000:9010",
    "--outbound-owner-groups-exclude",
    "2000",
];

fn run(args: &[&str]) -> CommandOutput {
    ctl::run(&[&[BINARY], args].concat(), &[], "")
}

/// The rules that `istio-iptables` would install for options.
fn rendered(options: &[&str], family: &str) -> String {
    run(&[
        &["rules", "--format", "iptables", "--family", family],
        options,
    ]
    .concat())
    .ok()
}

/// Installs the rules of options in a pod, after a change of the text.
fn install(
    scene: &Scene,
    backend: Backend,
    options: &[&str],
    change: impl Fn(&str) -> String,
) -> Tested {
    for (family, number) in [(Family::V4, "4"), (Family::V6, "6")] {
        let text = change(&rendered(options, number));
        iptables::apply(&scene.pod, backend, family, &text)?;
    }
    Ok(())
}

fn json(ran: &CommandOutput) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

/// A pod with constant addresses: the kernel adds no link-local address, which it would do after duplicate address
/// detection.
fn settled(name: &str) -> Result<Scene> {
    let scene = Scene::new(name)?;
    let root = scene.root()?;
    for line in [
        "ip link set dev eth0 addrgenmode none",
        "ip -6 addr flush dev eth0 scope link",
    ] {
        let ran = root.run(&line.split(' ').collect::<Vec<_>>())?;
        assert!(ran.is_success(), "{line}: {ran:?}");
    }
    Ok(scene)
}

fn a_pod_equals_the_rules_of_its_options() -> Tested {
    let scene = settled("parity-equal")?;
    scene.ok(&[&["attach"], OPTIONS].concat());
    let parity = scene.with_cgroup(&["parity"]);
    assert_refused(&scene.ctl.run(&parity), 1, &["iptables rules", "none"]);
    let pid = scene.app.pid().to_string();
    for backend in [Backend::Legacy, Backend::Nft] {
        install(&scene, backend, OPTIONS, str::to_owned)?;
        let said = scene.ctl.ok(&parity);
        let probes = said
            .strip_prefix("equal, ")
            .and_then(|rest| rest.strip_suffix(" probes\n"));
        assert!(probes.unwrap().parse::<u32>().unwrap() > 5000, "{said}");
        // The options alone give the same result, without the maps.
        let options = [&["parity", "--pid", &pid, "--dual-stack"], OPTIONS].concat();
        assert_eq!(run(&options).ok(), said);
        iptables::clear(&scene.pod, backend)?;
    }
    Ok(())
}

fn an_address_added_after_the_attach_is_named() -> Tested {
    let scene = settled("parity-address")?;
    scene.ok(&[&["attach"], OPTIONS].concat());
    install(&scene, Backend::Nft, OPTIONS, str::to_owned)?;
    let parity = scene.with_cgroup(&["parity"]);
    assert!(scene.ctl.ok(&parity).starts_with("equal, "));
    let added = ["ip", "addr", "add", "10.77.0.9/32", "dev", "lo"];
    assert!(scene.root()?.run(&added)?.is_success());
    let ran = scene.ctl.run(&parity);
    assert_eq!(ran.status, Some(3), "{ran:?}");
    assert!(ran.stderr.contains("10.77.0.9 is not known"), "{ran:?}");
    assert!(ran.stdout.contains("tcp to 10.77.0.9:"), "{ran:?}");
    scene.ok(&[&["update"], OPTIONS].concat());
    assert!(scene.ctl.ok(&parity).starts_with("equal, "));
    Ok(())
}

/// Adds `net1`, with a route to a range behind it, and a route by `eth0` to a part of that range.
fn second_link(scene: &Scene) -> Tested {
    let root = scene.root()?;
    for line in [
        "ip link add net1 type veth peer name peer1",
        // The same as for eth0 in `settled`.
        "ip link set dev net1 addrgenmode none",
        "ip link set dev peer1 addrgenmode none",
        "ip link set net1 up",
        "ip link set peer1 up",
        "ip addr add 10.78.0.2/24 dev net1",
        "ip route add 198.18.0.0/16 via 10.78.0.1",
        "ip route add 198.18.2.0/24 via 10.77.0.1",
    ] {
        let ran = root.run(&line.split(' ').collect::<Vec<_>>())?;
        assert!(ran.is_success(), "{line}: {ran:?}");
    }
    Ok(())
}

fn an_excluded_interface_is_shown_and_compared() -> Tested {
    let scene = settled("parity-interface")?;
    let options: &[&str] = &["-i", "*", "-c", "net1,lo"];
    let ran = scene
        .ctl
        .run(&scene.with_cgroup(&[&["attach"], options].concat()));
    assert!(ran.stderr.contains("-c \"net1\""), "{ran:?}");
    second_link(&scene)?;
    let ran = scene
        .ctl
        .run(&scene.with_cgroup(&[&["update"], options].concat()));
    assert!(
        ran.status == Some(0) && !ran.stderr.contains("net1"),
        "{ran:?}"
    );
    let shown = scene.ok(&["show"]);
    assert!(
        shown.contains("net1 lo") && shown.contains("interface-excluded"),
        "{shown}"
    );
    let chain = scene.ok(&["rules"]);
    assert!(chain.contains("-A OUTPUT -o net1 -j RETURN"), "{chain}");
    let rule = |dst| scene.ok(&["explain", "--uid", "1000", "--dst", dst]);
    assert!(rule("198.18.1.1:80").contains("-A OUTPUT -o NIC -j RETURN"));
    assert!(rule("198.18.2.1:80").contains("any-included"));

    install(&scene, Backend::Nft, options, str::to_owned)?;
    let parity = scene.with_cgroup(&["parity"]);
    assert!(scene.ctl.ok(&parity).starts_with("equal, "));
    let pid = scene.app.pid().to_string();
    let of_options = |interfaces| {
        run(&[
            "parity",
            "--pid",
            &pid,
            "--dual-stack",
            "-i",
            "*",
            "-c",
            interfaces,
        ])
    };
    assert!(of_options("net1,lo").ok().starts_with("equal, "));
    for (interfaces, witness) in [
        ("lo", "over net1"),
        ("net1", "tcp to 127.0.0."),
        ("net1,lo,eth0", "tcp to 198.51.100.77:"),
    ] {
        let ran = of_options(interfaces);
        assert_eq!(ran.status, Some(3), "{interfaces}: {ran:?}");
        assert!(ran.stdout.contains(witness), "{interfaces}: {ran:?}");
    }
    assert_other_interfaces_differ(&scene, options)
}

fn assert_other_interfaces_differ(scene: &Scene, options: &[&str]) -> Tested {
    let (root, parity) = (scene.root()?, scene.with_cgroup(&["parity"]));
    // The rule names another interface.
    let wrong = |text: &str| text.replace("-o net1", "-o net2");
    install(scene, Backend::Nft, options, wrong)?;
    let ran = scene.ctl.run(&parity);
    assert_eq!(ran.status, Some(3), "{ran:?}");
    assert!(ran.stdout.contains(", over net1 ("), "{ran:?}");

    // A route that cannot be decided is not compared.
    assert!(
        root.run(&["ip", "rule", "add", "fwmark", "5", "lookup", "9"])?
            .is_success()
    );
    assert_refused(&scene.ctl.run(&parity), 1, &["routing rule 32765", "-x"]);
    let update = scene.with_cgroup(&[&["update"], options].concat());
    assert_refused(&scene.ctl.run(&update), 1, &["routing rule 32765", "-x"]);
    Ok(())
}

fn shadow_findings_are_part_of_the_comparison() -> Tested {
    let scene = settled("parity-shadow")?;
    install(&scene, Backend::Legacy, OPTIONS, str::to_owned)?;
    scene.ok(&[&["attach", "--shadow"], OPTIONS].concat());
    scene.answers()?;
    let parity = scene.with_cgroup(&["parity"]);
    let judged = || {
        let said = scene.ctl.run(&parity).stdout;
        said.contains("\nequal, ")
            && said.starts_with("shadow mode: 4 agreed, 0 differed, 0 unknown")
    };
    assert!(wait_until(PATIENCE, judged), "{:?}", scene.ctl.run(&parity));
    // A difference that connections have shown counts, even if the rules are equal now.
    iptables::clear(&scene.pod, Backend::Legacy)?;
    scene.answers()?;
    install(&scene, Backend::Legacy, OPTIONS, str::to_owned)?;
    let differs = || scene.ctl.run(&parity).status == Some(3);
    assert!(
        wait_until(PATIENCE, differs),
        "{:?}",
        scene.ctl.run(&parity)
    );
    let status = scene.ctl.ok(&["status"]);
    assert!(status.contains("port 15001  direct"), "{status}");
    Ok(())
}

/// Longer than the last connection takes to close.
const PATIENCE: Duration = Duration::from_secs(5);

/// The rule that excludes the service's range.
const SERVICE_RULE: &str = "-A ISTIO_OUTPUT -d 36.152.44.0/24 -j RETURN\n";

fn a_changed_rule_is_shown_with_a_connection() -> Tested {
    let scene = settled("parity-changed")?;
    let narrower = SERVICE_RULE.replace("/24", "/26");
    let change = |text: &str| text.replace(SERVICE_RULE, &narrower);
    for (number, backend) in [Backend::Legacy, Backend::Nft].into_iter().enumerate() {
        install(&scene, backend, OPTIONS, change)?;
        scene.ok(&[&["attach"], OPTIONS].concat());
        let ran = scene
            .ctl
            .run(&scene.with_cgroup(&["parity", "--output", "json"]));
        assert_eq!(ran.status, Some(3), "{ran:?}");
        let report = json(&ran);
        let differences = report["differences"].as_array().unwrap();
        assert_eq!(differences.len(), 1, "{report}");
        let difference = &differences[0];
        assert_eq!(difference["here"]["rule"], "cidr-excluded", "{difference}");
        assert_eq!(difference["here"]["verdict"], "direct");
        assert_eq!(difference["rules"]["port"], 15001);
        let witness = difference["connection"]["dst"].as_str().unwrap();
        // A connection to that address shows the difference: under the rules alone it ends at the proxy, under the
        // programs alone in the world.
        if number == 0 {
            scene.pod.world().add_address(witness.parse()?)?;
        }
        scene.ok(&["detach"]);
        assert_eq!(scene.server_at(witness)?, "proxy", "{difference}");
        iptables::clear(&scene.pod, backend)?;
        scene.ok(&[&["attach"], OPTIONS].concat());
        assert_eq!(scene.server_at(witness)?, "world", "{difference}");
        scene.ok(&["detach"]);
    }
    Ok(())
}

fn imported_options_equal_the_rules() -> Tested {
    let scene = Scene::new("import-pod")?;
    let inbound = ["-b", "*", "-d", "15020,15090"];
    let options = [OPTIONS, &inbound].concat();
    install(&scene, Backend::Nft, &options, str::to_owned)?;
    let root = scene.root()?;
    let saved = |program: &str| -> Result<TempFile> {
        let ran = root.run(&[program, "-c"])?;
        assert!(ran.is_success(), "{ran:?}");
        Ok(TempFile::new(program, ran.stdout))
    };
    let (v4, v6) = (saved("iptables-nft-save")?, saved("ip6tables-nft-save")?);
    let import = ["import", v4.path(), "--ipv6", v6.path()];
    let line = run(&import).ok();
    let again: Vec<_> = line
        .split_whitespace()
        .map(|word| word.trim_matches('\''))
        .collect();
    assert_eq!(rendered(&again, "4"), rendered(&options, "4"));
    assert_eq!(rendered(&again, "6"), rendered(&options, "6"));
    let parity = ["parity", "--rules", v4.path(), "--ipv6", v6.path()];
    assert!(
        run(&[&parity, &again[..]].concat())
            .ok()
            .starts_with("equal, ")
    );
    // A foreign rule, read from standard input.
    let text =
        rendered(&options, "4").replace("COMMIT\n", "-A POSTROUTING -j MASQUERADE\nCOMMIT\n");
    let foreign = ctl::run(&[BINARY, "import"], &[], &text);
    assert_eq!(foreign.status, Some(3), "{foreign:?}");
    assert!(
        foreign
            .stderr
            .contains("no option expresses: -A POSTROUTING -j MASQUERADE"),
        "{foreign:?}"
    );
    assert!(foreign.stderr.contains("--ipv6"), "{foreign:?}");
    Ok(())
}

fn rules_that_are_not_understood_are_undecided() -> Tested {
    let scene = settled("parity-unread")?;
    scene.ok(&[&["attach"], OPTIONS].concat());
    // Only some connections reach this rule, which is not understood.
    let odd = "-A OUTPUT -p tcp --dport 81 -m length --length 3000 -j RETURN\n";
    let jump = "-A OUTPUT -j ISTIO_OUTPUT\n";
    let with_odd = |text: &str| text.replace(jump, &format!("{odd}{jump}"));
    install(&scene, Backend::Legacy, OPTIONS, with_odd)?;
    let ran = scene
        .ctl
        .run(&scene.with_cgroup(&["parity", "--output", "json"]));
    assert_eq!(ran.status, Some(4), "{ran:?}");
    let report = json(&ran);
    assert_eq!(report["result"], "undecided");
    let undecided = report["undecided"].as_array().unwrap();
    assert_eq!(undecided.len(), 2, "one of each family: {report}");
    for rule in undecided {
        assert!(
            rule["rule"].as_str().unwrap().contains("--length 3000"),
            "{rule}"
        );
        assert_eq!(rule["connection"]["port"], 81, "{rule}");
    }
    // The rules of both backends act together.
    install(&scene, Backend::Nft, OPTIONS, str::to_owned)?;
    let both = scene.ctl.run(&scene.with_cgroup(&["parity"]));
    assert_refused(&both, 1, &["iptables-legacy-save", "iptables-nft-save"]);
    Ok(())
}

#[expect(clippy::unnecessary_wraps, reason = "all tests have one type")]
fn texts_are_compared_without_a_pod() -> Tested {
    let inbound = ["-i", "*", "-b", "80", "-d", "1"];
    let v4 = TempFile::new("texts-4", rendered(&inbound, "4"));
    let v6 = TempFile::new("texts-6", rendered(&inbound, "6"));
    let texts = ["parity", "--rules", v4.path(), "--ipv6", v6.path()];
    let equal = run(&[&texts, &inbound[..]].concat()).ok();
    assert!(equal.starts_with("equal, "), "{equal}");
    for (options, witness) in [
        (
            &["-i", "*", "-b", "81"][..],
            "inbound tcp to 192.0.2.77:80 ",
        ),
        (&["-i", "*", "-b", "80", "-u", "1338"], "by uid 1337, "),
        (&["-i", "*", "-b", "80", "-q", "99"], "equal"),
        (
            &["-i", "*", "-b", "80", "-x", "9.0.0.0/8"],
            "tcp to 9.0.0.0:",
        ),
        (
            &["-i", "*", "-b", "80", "-p", "15011"],
            "out to 15011: any-included",
        ),
        (
            &["-i", "*", "-b", "80", "-e", "15018"],
            ":15018 by uid 1337",
        ),
    ] {
        let ran = run(&[&texts, options].concat());
        assert!(ran.stdout.contains(witness), "{options:?}: {ran:?}");
        let expected = if witness == "equal" { 0 } else { 3 };
        assert_eq!(ran.status, Some(expected), "{options:?}: {ran:?}");
    }
    // A missing text for IPv6 means that there are no IPv6 rules, and that IPv6 is off unless the options turn it on.
    let one_text = [&texts[..3], &inbound[..]].concat();
    assert!(run(&one_text).ok().starts_with("equal"));
    let only = run(&[&one_text[..], &["--dual-stack"]].concat());
    assert_eq!(only.status, Some(3), "{only:?}");
    assert!(
        only.stdout.contains("(no rule: end of the chains)"),
        "{only:?}"
    );
    Ok(())
}

#[expect(clippy::unnecessary_wraps, reason = "all tests have one type")]
fn a_text_that_is_not_rules_is_refused() -> Tested {
    let refused = |args: &[&str], input: &str, said: &[&str]| {
        let ran = ctl::run(&[&[BINARY], args].concat(), &[], input);
        assert_refused(&ran, 1, said);
    };
    refused(
        &["import"],
        "hello\n",
        &["standard input", "line 1", "hello"],
    );
    refused(&["import"], "", &["ISTIO_OUTPUT", "injected pod"]);
    refused(&["import", "/nowhere"], "", &["\"/nowhere\""]);
    refused(
        &["import"],
        "*nat\n:OUTPUT ACCEPT [0:0]\n",
        &["line 2", "cut off"],
    );
    refused(
        &["parity", "--rules", "-"],
        "*nat\n-A X -j DROP\n",
        &["line 2", "no chain X"],
    );
    refused(&["parity", "-i", "*"], "", &["--cgroup", "--rules"]);
    let both = run(&["parity", "--cgroup", "/sys/fs/cgroup", "-i", "*"]);
    assert_eq!(both.status, Some(2), "{both:?}");
    Ok(())
}
