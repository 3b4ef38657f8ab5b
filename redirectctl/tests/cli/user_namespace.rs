//! Pods with a user namespace of their own: commands take and print the ids inside it.

use redirect_testkit::{Pod, cases};
use serde_json::json;

use crate::{Cases, Needs::PodsAnd, Tested, ctl::Ctl};

pub(crate) const CASES: &[Cases] = cases! {
    PodsAnd(&["unshare"]) => [ids_are_those_of_the_pods_user_namespace],
};

fn ids_are_those_of_the_pods_user_namespace() -> Tested {
    let pod = Pod::with_user_namespace("userns-cli")?;
    let ctl = Ctl::new("userns");
    let cgroup = pod.cgroup().path().to_str().unwrap();
    let with_cgroup = |args: &[&str]| -> Vec<String> {
        let words = [&args[..1], &["--cgroup", cgroup], &args[1..]].concat();
        words.into_iter().map(str::to_owned).collect()
    };
    let run = |args: &[&str]| {
        let words = with_cgroup(args);
        ctl.run(&words.iter().map(String::as_str).collect::<Vec<_>>())
    };
    for options in [
        ["-u", "70000"],
        ["-g", "70000"],
        ["--outbound-owner-groups", "70000"],
    ] {
        let refused = run(&[&["attach", "-i", "*"], &options[..]].concat());
        assert_eq!(refused.status, Some(1), "{refused:?}");
        let words = "id 70000: the pod's user namespace has no such id, only these: 0-65535";
        assert!(refused.stderr.contains(words), "{refused:?}");
        assert!(ctl.ok(&["list"]).starts_with("nothing is attached in "));
    }
    run(&[
        "attach",
        "-i",
        "*",
        "-u",
        "1500,1337",
        "--outbound-owner-groups",
        "1000,0",
    ])
    .ok();
    let shown: serde_json::Value = serde_json::from_str(&run(&["show", "--output", "json"]).ok())?;
    let config = &shown["config"];
    assert_eq!(config["proxy_uids"], json!([1500, 1337]));
    assert_eq!(config["owner_groups"], json!([0, 1000]));
    let rules = run(&["rules"]).ok();
    assert!(rules.contains("--uid-owner 1337 -j RETURN"), "{rules}");
    assert!(!rules.contains("101337"), "{rules}");
    let asked = |uid| {
        run(&[
            "explain",
            "--uid",
            uid,
            "--gid",
            "0",
            "--dst",
            "192.0.2.1:80",
        ])
    };
    let explained = asked("1337").ok();
    assert!(
        explained.contains("--uid-owner 1337 -j RETURN"),
        "{explained}"
    );
    assert!(asked("7").ok().contains("any-included"));
    let refused = asked("101337");
    assert!(refused.stderr.contains("no such id"), "{refused:?}");
    Ok(())
}
