//! `cidr`: changes of a running pod's ranges, and their effect on its connections.

use std::{fmt::Write as _, time::Instant};

use redirect_testkit::cases;
use serde_json::json;

use crate::{Cases, Needs::Pods, Tested, bad_input::assert_refused, ctl::TempFile, scene::Scene};

pub(crate) const CASES: &[Cases] = cases! {
    Pods => [
        ranges_change_under_running_connections,
        replace_prints_only_the_difference,
        mapped_ranges_are_kept,
        included_ranges_change_too,
        a_hundred_thousand_ranges_load,
    ],
};

fn ranges_change_under_running_connections() -> Tested {
    let scene = Scene::new("cidr")?;
    scene.ok(&["attach", "-i", "*", "-x", "192.0.2.0/24"]);
    assert_eq!(scene.answers()?, ["proxy"; 4]);
    // The application is one process throughout: it is never restarted.
    assert_eq!(
        scene.ok(&["cidr", "add", "36.152.44.0/24", "2001:db8::/48"]),
        "2 added, 0 removed: 3 ranges\n"
    );
    assert_eq!(scene.answers()?, ["world", "world", "proxy", "proxy"]);
    assert_eq!(
        scene.ok(&["cidr", "add", "36.152.44.0/24"]),
        "0 added, 0 removed: 3 ranges\n"
    );
    assert_eq!(
        scene.ok(&["cidr", "list"]),
        "36.152.44.0/24\n192.0.2.0/24\n2001:db8::/48\n"
    );
    // The counter of the rule has moved, too.
    let shown = scene.ctl.json(&scene.with_cgroup(&["show"]));
    let rules = shown["rules"].as_array().unwrap();
    let excluded = rules
        .iter()
        .find(|rule| rule["rule"] == "cidr-excluded")
        .unwrap();
    assert_eq!(excluded["hits"], 2, "{excluded}");
    assert_eq!(
        scene.ok(&["cidr", "del", "36.152.44.0/24"]),
        "0 added, 1 removed: 2 ranges\n"
    );
    assert_eq!(scene.answers()?, ["proxy", "world", "proxy", "proxy"]);
    Ok(())
}

fn replace_prints_only_the_difference() -> Tested {
    let scene = Scene::new("replace-print")?;
    scene.ok(&["attach", "-i", "*", "-x", "192.0.2.0/24,36.152.44.0/24"]);
    let file = TempFile::new(
        "replace",
        "192.0.2.0/24 # stays\n\n# IPv6\n2001:db8:1::/48\n",
    );
    assert_eq!(
        scene.ok(&["cidr", "replace", "--verbose", "--file", file.path()]),
        "- 36.152.44.0/24\n+ 2001:db8:1::/48\n1 added, 1 removed: 2 ranges\n"
    );
    assert_eq!(scene.answers()?, ["proxy", "proxy", "proxy", "world"]);
    // Standard input, and the same as JSON.
    let args = scene.with_cgroup(&["cidr", "replace", "-f", "-", "--output", "json"]);
    let ran = scene
        .ctl
        .run_with_input(&args, "198.51.100.0/24\n192.0.2.0/24\n");
    let change: serde_json::Value = serde_json::from_str(&ran.ok())?;
    assert_eq!(
        change,
        json!({"added": ["198.51.100.0/24"], "removed": ["2001:db8:1::/48"], "total": 2})
    );
    assert_eq!(scene.answers()?, ["proxy", "proxy", "world", "proxy"]);
    // A failed command before the pipe prints an empty input.
    let ran = scene.ctl.run_with_input(
        &scene.with_cgroup(&["cidr", "replace", "-f", "-"]),
        "# nothing\n",
    );
    assert_refused(&ran, 1, &["none are given", "cidr del"]);
    let both = "192.0.2.0/24\n198.51.100.0/24\n";
    assert_eq!(scene.ok(&["cidr", "list"]), both);
    scene.ok(&["cidr", "del", "192.0.2.0/24", "198.51.100.0/24"]);
    assert_eq!(scene.answers()?, ["proxy"; 4]);
    assert_eq!(scene.ok(&["cidr", "list"]), "");
    Ok(())
}

fn mapped_ranges_are_kept() -> Tested {
    let scene = Scene::new("mapped")?;
    let mapped = "::ffff:36.152.44.0/120";
    scene.ok(&["attach", "-i", "*", "-x", mapped]);
    // A mapped range is an IPv6 range, and contains no IPv4 connection.
    assert_eq!(scene.answers()?, ["proxy"; 4]);
    scene.ok(&["cidr", "add", "192.0.2.0/24"]);
    let listed = scene.ok(&["cidr", "list"]);
    assert!(listed.contains(mapped), "{listed}");
    scene.ok(&["cidr", "del", mapped]);
    assert_eq!(scene.ok(&["cidr", "list"]), "192.0.2.0/24\n");
    Ok(())
}

fn included_ranges_change_too() -> Tested {
    let scene = Scene::new("include")?;
    scene.ok(&["attach", "-i", "36.152.44.0/24"]);
    assert_eq!(scene.answers()?, ["proxy", "world", "world", "world"]);
    scene.ok(&["cidr", "add", "--list", "include", "2001:db8::/32"]);
    assert_eq!(scene.answers()?, ["proxy", "proxy", "world", "proxy"]);
    assert_eq!(
        scene.ok(&["cidr", "list", "--list", "include"]),
        "36.152.44.0/24\n2001:db8::/32\n"
    );
    scene.ok(&["cidr", "add", "2001:db8:1::/48"]);
    assert_eq!(scene.answers()?, ["proxy", "proxy", "world", "world"]);
    Ok(())
}

fn a_hundred_thousand_ranges_load() -> Tested {
    let scene = Scene::new("many")?;
    scene.ok(&["attach", "-i", "*"]);
    let mut text = String::from("36.152.44.0/24\n2001:db8::/48\n");
    for n in 2..100_000_u32 {
        // 100.64.0.0/10 holds more than enough.
        writeln!(
            text,
            "100.{}.{}.{}/32",
            64 + (n >> 16),
            (n >> 8) & 255,
            n & 255
        )?;
    }
    let file = TempFile::new("many", text);
    let begun = Instant::now();
    let printed = scene.ok(&["cidr", "replace", "--file", file.path()]);
    let took = begun.elapsed();
    assert_eq!(printed, "100000 added, 0 removed: 100000 ranges\n");
    assert_eq!(scene.answers()?, ["world", "world", "proxy", "proxy"]);
    let maps = scene.ctl.json(&["status"])["maps"].clone();
    let bytes = |name: &str| {
        maps.as_array()
            .unwrap()
            .iter()
            .find(|map| map["map"] == name)
            .unwrap()["bytes"]
            .as_u64()
    };
    let (v4, v6) = (bytes("CIDRS4").unwrap(), bytes("CIDRS6").unwrap());
    let took = took.as_millis();
    eprintln!("100,000 ranges: {took} ms; CIDRS4 {v4} bytes, CIDRS6 {v6} bytes");
    assert!(v4 > 1_000_000, "{maps}");
    assert_eq!(scene.ctl.json(&["list"])[0]["ranges"], 100_000);
    // Removing one of many ranges keeps the rest.
    assert_eq!(
        scene.ok(&["cidr", "del", "36.152.44.0/24"]),
        "0 added, 1 removed: 99999 ranges\n"
    );
    assert_eq!(scene.answers()?, ["proxy", "world", "proxy", "proxy"]);
    Ok(())
}
