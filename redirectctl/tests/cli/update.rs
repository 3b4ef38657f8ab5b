//! `update`: the difference that it makes is printed, and `--keep` changes only the options that are given.

use redirect_testkit::cases;
use serde_json::json;

use crate::{Cases, Needs::Pods, Tested, scene::Scene};

pub(crate) const CASES: &[Cases] = cases! {
    Pods => [
        update_prints_every_option_that_has_another_value,
        update_with_keep_changes_only_the_options_that_are_given,
        a_cgroup_is_found_by_its_id,
    ],
};

fn update_prints_every_option_that_has_another_value() -> Tested {
    let scene = Scene::new("difference")?;
    scene.ok(&["attach", "-i", "*", "-x", "36.152.44.0/24"]);
    let many = ["10.0.0.0/8", "11.0.0.0/8", "12.0.0.0/8", "13.0.0.0/8"];
    scene.ok(&[&["cidr", "add"], &many[..]].concat());
    let text = scene.ok(&["update", "-i", "10.0.0.0/8", "-o", "22"]);
    let (head, changes) = text.split_once('\n').unwrap();
    assert!(head.starts_with("updated \""), "{text}");
    assert_eq!(
        changes,
        "  -i  * -> 10.0.0.0/8\n  -x  5 entries -> none\n  -o  none -> 22\n"
    );
    let same = scene.ok(&["update", "-i", "10.0.0.0/8", "-o", "22"]);
    assert!(same.ends_with("\n  no option changed\n"), "{same}");
    let args = scene.with_cgroup(&["update", "-i", "10.0.0.0/8", "-o", "23"]);
    assert_eq!(
        scene.ctl.json(&args)["changes"],
        json!([{"option": "-o", "before": "22", "after": "23"}])
    );
    Ok(())
}

fn update_with_keep_changes_only_the_options_that_are_given() -> Tested {
    let scene = Scene::new("keep")?;
    scene.ok(&["attach", "-i", "*", "-b", "*", "-d", "15020", "--shadow"]);
    scene.ok(&["cidr", "add", "36.152.44.0/24", "2001:db8::/48"]);
    let cgroup = scene.cgroup();
    let keep = |args: &[&str]| {
        let words = [&["update", "--cgroup", cgroup, "--keep"], args].concat();
        let text = scene.ctl.ok(&words);
        text.split_once('\n').unwrap().1.to_owned()
    };
    assert_eq!(keep(&[]), "  no option changed\n");
    assert_eq!(scene.answers()?, ["world"; 4]);
    assert_eq!(keep(&["--shadow=false"]), "  --shadow  true -> false\n");
    assert_eq!(scene.answers()?, ["world", "world", "proxy", "proxy"]);
    assert_eq!(
        keep(&["-x", "36.152.44.0/24"]),
        "  -x  36.152.44.0/24,2001:db8::/48 -> 36.152.44.0/24\n"
    );
    assert_eq!(scene.answers()?, ["world", "proxy", "proxy", "proxy"]);
    // A variable gives an option, too.
    let ran = scene.ctl.run_with(
        &["update", "--cgroup", cgroup, "--keep"],
        &[("ISTIO_SERVICE_CIDR", "198.51.100.0/24")],
    );
    let text = ran.ok();
    assert!(text.ends_with("\n  -i  * -> 198.51.100.0/24\n"), "{text}");
    assert_eq!(scene.answers()?, ["world", "world", "proxy", "world"]);
    let config = &scene.ctl.json(&["show", "--cgroup", cgroup])["config"];
    assert_eq!(config["inbound"]["exclude_ports"], json!(["15020"]));
    assert_eq!(config["dual_stack"], true);
    Ok(())
}

fn a_cgroup_is_found_by_its_id() -> Tested {
    let scene = Scene::new("by-id")?;
    scene.ok(&["attach", "-i", "*"]);
    let id = &scene.ctl.json(&["list"])[0]["cgroup_id"];
    let by_id = format!("id:{id}");
    let of_pod = |command: &str, cgroup: &str| scene.ctl.ok(&[command, "--cgroup", cgroup]);
    assert_eq!(of_pod("show", &by_id), of_pod("show", scene.cgroup()));
    of_pod("detach", &by_id);
    assert_eq!(scene.answers()?, ["world"; 4]);
    Ok(())
}
