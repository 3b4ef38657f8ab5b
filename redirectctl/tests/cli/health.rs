//! Pods whose links other programs have removed are named, repaired, and never in the way of others.

use std::{fs, path::PathBuf, time::Duration};

use redirect_common::hooks::Hook;
use redirect_testkit::{cases, wait_until};
use serde_json::{Value, json};

use crate::{Cases, Needs::Pods, Tested, ctl, scene::Scene};

pub(crate) const CASES: &[Cases] = cases! {
    Pods => [
        a_pod_without_a_link_is_named_and_repaired_by_an_update,
        every_link_is_missed,
        a_pin_of_another_link_is_not_taken_for_the_pods_own,
    ],
};

/// The folder of the pod's links.
fn links(scene: &Scene) -> PathBuf {
    let list = scene.ctl.json(&["list"]);
    let id = list[0]["cgroup_id"].as_u64().unwrap().to_string();
    let pods = scene.ctl.folder().join(ctl::version()).join("pods");
    pods.join(id)
}

/// Waits until the application reaches these servers: the kernel detaches a link without a pin in the background.
#[track_caller]
fn until_answers(scene: &Scene, expected: [&str; 4]) {
    let reached = || scene.answers().unwrap() == expected;
    assert!(
        wait_until(Duration::from_secs(10), reached),
        "{:?}",
        scene.answers()
    );
}

/// The missing programs in `list`, with their reasons.
fn missing(list: &Value) -> Value {
    list[0]["missing"].clone()
}

fn a_pod_without_a_link_is_named_and_repaired_by_an_update() -> Tested {
    let scene = Scene::new("damaged")?;
    scene.ok(&["attach", "-i", "*"]);
    let list = scene.ctl.json(&["list"]);
    assert_eq!(
        (&list[0]["state"], missing(&list)),
        (&json!("attached"), json!([]))
    );
    assert_eq!(scene.answers()?, ["proxy"; 4]);

    // The first link that answers, and one that decides.
    for hook in ["sock_ops", "connect4"] {
        fs::remove_file(links(&scene).join(hook))?;
    }
    until_answers(&scene, ["world", "proxy", "world", "proxy"]);
    let list = scene.ctl.json(&["list"]);
    let gone = |hook| json!({"hook": hook, "reason": "its link is gone"});
    assert_eq!(list[0]["state"], "damaged");
    assert_eq!(missing(&list), json!([gone("sock_ops"), gone("connect4")]));
    let status = scene.ctl.json(&["status"]);
    assert_eq!(
        (&status["cgroups"], &status["damaged"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(status["health"][0]["missing"], missing(&list));
    for command in ["list", "status"] {
        let text = scene.ctl.ok(&[command]);
        for said in [
            "damaged",
            "connect4",
            "its link is gone",
            "redirectctl update --keep",
        ] {
            assert!(text.contains(said), "{command}: {said}: {text}");
        }
    }

    // Another pod is attached and detached meanwhile, and the links that are left stay.
    let second = scene.pod.second_cgroup("beside")?;
    let second = second.path().to_str().unwrap();
    scene.ctl.ok(&["attach", "--cgroup", second, "-i", "*"]);
    scene.ctl.ok(&["detach", "--cgroup", second]);
    assert_eq!(scene.answers()?, ["world", "proxy", "world", "proxy"]);

    scene.ok(&["update", "--keep"]);
    assert_eq!(scene.answers()?, ["proxy"; 4]);
    let list = scene.ctl.json(&["list"]);
    assert_eq!(
        (&list[0]["state"], missing(&list)),
        (&json!("attached"), json!([]))
    );
    scene.ok(&["detach"]);
    assert_eq!(scene.answers()?, ["world"; 4]);
    Ok(())
}

fn every_link_is_missed() -> Tested {
    let scene = Scene::new("each")?;
    scene.ok(&["attach", "-i", "*", "-b", "*"]);
    let links = links(&scene);
    for hook in Hook::ALL.into_iter().chain([Hook::SkLookup]) {
        fs::remove_file(links.join(hook.program()))?;
        let list = scene.ctl.json(&["list"]);
        let expected = json!([{"hook": hook.program(), "reason": "its link is gone"}]);
        assert_eq!(missing(&list), expected);
        scene.ok(&["update", "--keep"]);
        assert_eq!(missing(&scene.ctl.json(&["list"])), json!([]));
        assert_eq!(scene.answers()?, ["proxy"; 4], "{hook:?}");
        assert_eq!(scene.inbound_answers()?, ["inbound"; 2], "{hook:?}");
    }
    Ok(())
}

fn a_pin_of_another_link_is_not_taken_for_the_pods_own() -> Tested {
    let scene = Scene::new("swapped")?;
    scene.ok(&["attach", "-i", "*"]);
    let links = links(&scene);
    let maps = scene.ctl.folder().join(ctl::version()).join("maps");
    for other in [links.join("connect6"), maps.join("PORTS")] {
        fs::remove_file(links.join("connect4"))?;
        fs::hard_link(other, links.join("connect4"))?;
        let list = scene.ctl.json(&["list"]);
        let reason = "another object is pinned in place of its link";
        assert_eq!(
            missing(&list),
            json!([{"hook": "connect4", "reason": reason}])
        );
        until_answers(&scene, ["world", "proxy", "world", "proxy"]);
        scene.ok(&["update", "--keep"]);
        assert_eq!(missing(&scene.ctl.json(&["list"])), json!([]));
        assert_eq!(scene.answers()?, ["proxy"; 4]);
    }
    Ok(())
}
