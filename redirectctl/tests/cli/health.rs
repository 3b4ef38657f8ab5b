//! Pods whose links other programs have removed are named, repaired, and never in the way of others.

use std::{fs, path::PathBuf, time::Duration};

use redirect_common::{abi::Meta, hooks::Hook};
use redirect_testkit::{AttachFlags, SocketLb, cases, wait_until};
use redirect_user::bpf::{Maps, Pins};
use serde_json::{Value, json};

use crate::{
    Cases,
    Needs::Pods,
    Tested,
    bad_input::assert_refused,
    ctl,
    scene::{SERVICE, Scene, at},
};

pub(crate) const CASES: &[Cases] = cases! {
    Pods => [
        a_pod_without_a_link_is_named_and_repaired_by_an_update,
        every_link_is_missed,
        a_pin_of_another_link_is_not_taken_for_the_pods_own,
        one_damaged_pod_does_not_stop_an_upgrade,
        lost_pins_of_maps_are_pinned_anew,
        a_foreign_file_in_the_folder_of_a_pod_stops_nobody,
        a_program_above_that_forbids_others_is_named,
        a_program_above_that_would_stop_running_is_named_and_can_be_given_up,
        a_program_above_that_runs_beside_ours_is_listed,
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

/// Attaches a program to the cgroup above the application's. It sends connects to the second service to the first.
fn program_above(scene: &Scene, flags: AttachFlags) -> anyhow::Result<SocketLb> {
    SocketLb::attach_with(&scene.pod, at("198.51.100.7"), at(SERVICE[0]), flags)
}

/// Arguments that attach the application's cgroup.
fn attach_app<'a>(app: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["attach", "--cgroup", app, "-i", "*"], more].concat()
}

fn a_program_above_that_forbids_others_is_named() -> Tested {
    let scene = Scene::new("forbids")?;
    let app = scene.pod.cgroup().app();
    let app = app.to_str().unwrap();
    for flags in [AttachFlags::None, AttachFlags::AllowOverride] {
        let above = program_above(&scene, flags)?;
        // On the very cgroup of the program, the kernel allows no link in either mode.
        let own = scene.with_cgroup(&["attach", "-i", "*", "--allow-override"]);
        let said = [
            "`connect4`",
            "\"socket_lb\" (id ",
            "on the same cgroup",
            "BPF_F_ALLOW_MULTI",
        ];
        assert_refused(&scene.ctl.run(&own), 1, &said);
        drop(above);
    }
    let above = program_above(&scene, AttachFlags::None)?;
    let said = [
        "attach program `connect4`",
        app,
        "\"socket_lb\" (id ",
        &*format!("on cgroup \"{}\" above", scene.cgroup()),
        "BPF_F_ALLOW_MULTI, or detach it",
    ];
    for more in [&[][..], &["--allow-override"]] {
        assert_refused(&scene.ctl.run(&attach_app(app, more)), 1, &said);
    }
    assert_eq!(scene.ctl.json(&["list"]), json!([]));
    assert_eq!(scene.answers()?, ["world"; 4]);
    drop(above);
    scene.ctl.ok(&attach_app(app, &[]));
    assert_eq!(scene.server_at(SERVICE[0])?, "proxy");
    Ok(())
}

fn a_program_above_that_would_stop_running_is_named_and_can_be_given_up() -> Tested {
    let scene = Scene::new("gives")?;
    let app = scene.pod.cgroup().app();
    let app = app.to_str().unwrap();
    let _above = program_above(&scene, AttachFlags::AllowOverride)?;
    let said = [
        "attach program `connect4`",
        app,
        "\"socket_lb\" (id ",
        &*format!("on cgroup \"{}\" above", scene.cgroup()),
        "would no longer run",
        "--allow-override",
    ];
    assert_refused(&scene.ctl.run(&attach_app(app, &[])), 1, &said);
    assert_eq!(scene.ctl.json(&["list"]), json!([]));
    scene.ctl.ok(&attach_app(app, &["--allow-override"]));
    assert_eq!(scene.server_at(SERVICE[0])?, "proxy");
    // The program above no longer runs, so it is not listed.
    let list = scene.ctl.json(&["list"]);
    assert_eq!(
        (&list[0]["state"], &list[0]["foreign"]),
        (&json!("attached"), &json!([]))
    );
    Ok(())
}

fn a_program_above_that_runs_beside_ours_is_listed() -> Tested {
    let scene = Scene::new("beside-ours")?;
    let app = scene.pod.cgroup().app();
    let app = app.to_str().unwrap();
    let above = program_above(&scene, AttachFlags::AllowMulti)?;
    scene.ctl.ok(&attach_app(app, &[]));
    assert_eq!(scene.server_at(SERVICE[0])?, "proxy");
    let list = scene.ctl.json(&["list"]);
    let foreign = &list[0]["foreign"];
    assert_eq!(list[0]["state"], "attached");
    assert_eq!(foreign.as_array().map(Vec::len), Some(1), "{list}");
    assert_eq!(
        (&foreign[0]["hook"], &foreign[0]["program"]),
        (&json!("connect4"), &json!("socket_lb"))
    );
    for command in ["list", "status"] {
        assert!(scene.ctl.ok(&[command]).contains("socket_lb"), "{command}");
    }
    drop(above);
    assert_eq!(scene.ctl.json(&["list"])[0]["foreign"], json!([]));
    Ok(())
}

/// Marks the programs as those of another build.
fn age(scene: &Scene) -> Tested {
    let mut maps = Maps::open(&Pins::new(scene.ctl.folder()))?;
    let meta = maps.meta()?;
    let build = meta.build.wrapping_add(1);
    maps.set_meta(Meta { build, ..meta })
}

fn one_damaged_pod_does_not_stop_an_upgrade() -> Tested {
    let scene = Scene::new("old-one")?;
    let second = scene.pod.second_cgroup("whole")?;
    let second = second.path().to_str().unwrap();
    scene.ok(&["attach", "-i", "*"]);
    let damaged = links(&scene);
    scene.ctl.ok(&["attach", "--cgroup", second, "-i", "*"]);
    fs::remove_file(damaged.join("connect4"))?;
    until_answers(&scene, ["world", "proxy", "world", "proxy"]);
    age(&scene)?;
    let upgraded = scene.ctl.json(&["upgrade"]);
    assert_eq!(upgraded["cgroups"], 2, "{upgraded}");
    assert_eq!(scene.answers()?, ["proxy"; 4]);
    let states = scene.ctl.json(&["list"]);
    let states: Vec<_> = states
        .as_array()
        .unwrap()
        .iter()
        .map(|pod| &pod["state"])
        .collect();
    assert_eq!(states, ["attached"; 2]);

    // A pod that cannot be repaired is named, and the other one is upgraded.
    fs::remove_file(damaged.join("connect4"))?;
    until_answers(&scene, ["world", "proxy", "world", "proxy"]);
    age(&scene)?;
    let _above = SocketLb::attach_with(
        &scene.pod,
        at("198.51.100.7"),
        at(SERVICE[0]),
        AttachFlags::None,
    )?;
    let ran = scene.ctl.run(&["upgrade"]);
    assert_eq!(ran.status, Some(1), "{ran:?}");
    assert!(
        ran.stdout.contains("programs of 1 attached cgroups"),
        "{ran:?}"
    );
    let id = damaged.file_name().unwrap().to_str().unwrap();
    for said in [&format!("not replaced: id:{id}"), "connect4", "socket_lb"] {
        assert!(ran.stdout.contains(said), "{said}: {ran:?}");
    }
    Ok(())
}

fn lost_pins_of_maps_are_pinned_anew() -> Tested {
    let scene = Scene::new("lost")?;
    let options = [
        "-i",
        "*",
        "-x",
        "198.51.100.0/24,2001:db8:1::/48",
        "-b",
        "*",
    ];
    scene.ok(&[&["attach"], &options[..]].concat());
    let maps = scene.ctl.folder().join(ctl::version()).join("maps");
    let answers = ["proxy", "proxy", "world", "world"];
    let before = scene.ok(&["cidr", "list"]);
    for lost in [
        &["META"][..],
        &["PODS"],
        &["CIDRS4", "POLICIES"],
        &["CIDRS4-1", "CIDRS6-1", "GROUPS-0"],
        &["META", "PODS", "INBOUND", "IDS"],
    ] {
        for map in lost {
            fs::remove_file(maps.join(map))?;
        }
        assert_eq!(scene.answers()?, answers, "{lost:?}");
        scene.ctl.ok(&["upgrade"]);
        for map in lost {
            assert!(maps.join(map).exists(), "{map}");
        }
        let list = scene.ctl.json(&["list"]);
        assert_eq!(
            (&list[0]["state"], missing(&list)),
            (&json!("attached"), json!([])),
            "{lost:?}"
        );
        assert_eq!(scene.ok(&["cidr", "list"]), before, "{lost:?}");
        assert_eq!(scene.answers()?, answers, "{lost:?}");
        assert_eq!(scene.inbound_answers()?, ["inbound"; 2], "{lost:?}");
    }
    // A pin that is lost while nothing reads it is no reason for another attach to detach anything.
    fs::remove_file(maps.join("META"))?;
    let second = scene.pod.second_cgroup("late")?;
    let second = second.path().to_str().unwrap();
    scene.ctl.ok(&["attach", "--cgroup", second, "-i", "*"]);
    assert_eq!(scene.ctl.json(&["list"]).as_array().unwrap().len(), 2);
    assert_eq!(scene.answers()?, answers);
    scene.ok(&["detach"]);
    assert_eq!(scene.answers()?, ["world"; 4]);
    Ok(())
}

fn a_foreign_file_in_the_folder_of_a_pod_stops_nobody() -> Tested {
    let scene = Scene::new("strange")?;
    scene.ok(&["attach", "-i", "*"]);
    let (links, maps) = (
        links(&scene),
        scene.ctl.folder().join(ctl::version()).join("maps"),
    );
    let theirs = links.join("theirs");
    fs::hard_link(maps.join("PORTS"), &theirs)?;
    scene.ok(&["detach"]);
    assert_eq!(scene.answers()?, ["world"; 4]);
    let second = scene.pod.second_cgroup("other")?;
    let second = second.path().to_str().unwrap();
    scene.ctl.ok(&["attach", "--cgroup", second, "-i", "*"]);
    scene.ok(&["attach", "-i", "*"]);
    assert_eq!(scene.answers()?, ["proxy"; 4]);
    assert!(theirs.exists());
    fs::remove_file(theirs)?;
    Ok(())
}
