//! State directories at a wrong place, with wrong contents, or with foreign files.

use std::{fs, path::PathBuf};

use redirect_testkit::cases;

use crate::{Cases, Needs::Pods, Tested, bad_input::assert_refused, ctl, scene::Scene};

pub(crate) const CASES: &[Cases] = cases! {
    Pods => [
        a_folder_on_another_file_system_is_refused,
        a_wrong_map_at_a_maps_path_is_refused,
        a_wrong_program_at_a_programs_path_is_refused,
        a_half_made_folder_is_made_anew,
        a_foreign_entry_in_an_unloaded_folder_is_named,
        a_foreign_pin_survives_uninstall,
    ],
};

const OPTIONS: [&str; 4] = ["-i", "*", "-x", "198.51.100.0/24"];

fn attach(scene: &Scene) -> ctl::CommandOutput {
    scene
        .ctl
        .run(&scene.with_cgroup(&[&["attach"], &OPTIONS[..]].concat()))
}

/// A path in the folder of this version.
fn ours(scene: &Scene, below: &str) -> PathBuf {
    scene.ctl.folder().join(ctl::version()).join(below)
}

fn a_folder_on_another_file_system_is_refused() -> Tested {
    let scene = Scene::new("elsewhere")?;
    let elsewhere = std::env::temp_dir().join(scene.pod.name());
    let inside = elsewhere.join(ctl::version()).join("pods/7");
    fs::create_dir_all(&inside)?;
    fs::write(inside.join("connect4"), "mine")?;
    let path = elsewhere.to_str().unwrap();
    let said = [
        path,
        "is not on a BPF file system: choose a folder below \"/sys/fs/bpf\"",
    ];
    let commands: &[&[&str]] = &[
        &["list"],
        &["status"],
        &["uninstall", "--yes"],
        &scene.with_cgroup(&["attach", "-i", "*"]),
        &scene.with_cgroup(&["update"]),
        &scene.with_cgroup(&["detach"]),
        &scene.with_cgroup(&["show"]),
        &scene.with_cgroup(&["cidr", "list"]),
    ];
    for args in commands {
        let ran = ctl::run(&[&[ctl::BINARY, "--bpffs", path], *args].concat(), &[], "");
        assert_refused(&ran, 1, &said);
    }
    let new = elsewhere.join("new");
    let args = scene.with_cgroup(&["attach", "-i", "*"]);
    let ran = ctl::run(
        &[&[ctl::BINARY, "--bpffs", new.to_str().unwrap()], &args[..]].concat(),
        &[],
        "",
    );
    assert_refused(&ran, 1, &["is not on a BPF file system"]);
    assert!(!new.exists());
    assert_eq!(fs::read_to_string(inside.join("connect4"))?, "mine");
    fs::remove_dir_all(elsewhere)?;
    Ok(())
}

/// One map has the same kind and other keys, the others have another kind.
fn a_wrong_map_at_a_maps_path_is_refused() -> Tested {
    let scene = Scene::new("map")?;
    for (place, other) in [("PODS", "META"), ("LOCALS", "PORTS"), ("META", "LOCALS")] {
        scene.ok(&["attach", "-i", "*"]);
        let maps = ours(&scene, "maps");
        fs::remove_file(maps.join(place))?;
        fs::hard_link(maps.join(other), maps.join(place))?;
        let tree = scene.ctl.tree();
        let path = maps.join(place);
        let said = [
            path.to_str().unwrap(),
            "not one of this version's",
            "redirectctl uninstall",
        ];
        let commands: &[&[&str]] = &[
            &["list"],
            &["status"],
            &scene.with_cgroup(&["attach"]),
            &scene.with_cgroup(&["update"]),
            &scene.with_cgroup(&["detach"]),
            &scene.with_cgroup(&["show"]),
            &scene.with_cgroup(&["explain", "--uid", "1", "--dst", "1.1.1.1:1"]),
            &scene.with_cgroup(&["cidr", "add", "10.0.0.0/8"]),
        ];
        for args in commands {
            assert_refused(&scene.ctl.run(args), 1, &said);
        }
        assert_eq!(scene.ctl.tree(), tree);
        // The remedy of the message helps.
        assert_eq!(scene.answers()?, ["proxy"; 4]);
        scene.ctl.ok(&["uninstall", "--yes"]);
        assert_eq!(scene.answers()?, ["world"; 4]);
    }
    Ok(())
}

fn a_wrong_program_at_a_programs_path_is_refused() -> Tested {
    let scene = Scene::new("program")?;
    scene.ok(&["attach", "-i", "*"]);
    scene.ok(&["detach"]);
    let tree = scene.ctl.tree();
    let programs = ours(&scene, "programs");
    let place = programs.join("connect6");
    fs::remove_file(&place)?;
    fs::hard_link(programs.join("get_peername6"), &place)?;
    let said = [
        &*format!("{}\"", place.display()),
        "not one of this version's",
        "get_peername6",
        "redirectctl uninstall",
    ];
    assert_refused(&attach(&scene), 1, &said);
    // The seven hooks that were attached before the failure are detached again.
    assert_eq!(scene.ctl.tree(), tree);
    assert_eq!(scene.answers()?, ["world"; 4]);
    Ok(())
}

fn a_half_made_folder_is_made_anew() -> Tested {
    let scene = Scene::new("half")?;
    scene.ok(&["attach", "-i", "*"]);
    scene.ok(&["detach"]);
    let whole = scene.ctl.tree();
    // The state after a load that was killed: no maps yet, or everything but the name.
    let version = scene.ctl.folder().join(ctl::version());
    let staging = scene.ctl.folder().join(format!("{}-new", ctl::version()));
    fs::rename(&version, &staging)?;
    for keep in ["programs", "maps"] {
        assert!(
            scene
                .ctl
                .ok(&["list"])
                .starts_with("nothing is attached in ")
        );
        assert_eq!(attach(&scene).status, Some(0));
        assert_eq!(scene.answers()?, ["proxy", "proxy", "world", "proxy"]);
        scene.ok(&["detach"]);
        assert_eq!(scene.ctl.tree(), whole);
        fs::create_dir_all(staging.join(keep))?;
        fs::rename(version.join("maps/PORTS"), staging.join(keep).join("PORTS"))?;
        fs::remove_file(version.join("maps/META"))?;
    }
    Ok(())
}

fn a_foreign_entry_in_an_unloaded_folder_is_named() -> Tested {
    let scene = Scene::new("named")?;
    let theirs = ours(&scene, "theirs");
    fs::create_dir_all(&theirs)?;
    fs::create_dir_all(ours(&scene, "pods"))?;
    let said = [
        &*format!(
            "{}\": it contains files that this program did not create",
            ctl::version()
        ),
        &format!("{}\"", theirs.display()),
    ];
    assert_refused(&attach(&scene), 1, &said);
    assert_eq!(scene.answers()?, ["world"; 4]);
    fs::remove_dir(theirs)?;
    assert_eq!(attach(&scene).status, Some(0));
    Ok(())
}

fn a_foreign_pin_survives_uninstall() -> Tested {
    let scene = Scene::new("among")?;
    assert_eq!(attach(&scene).status, Some(0));
    let theirs = ours(&scene, "maps/THEIRS");
    fs::hard_link(ours(&scene, "maps/PORTS"), &theirs)?;
    let ran = scene.ctl.run(&["uninstall", "--yes"]);
    assert_eq!(ran.status, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("maps/THEIRS\""), "{ran:?}");
    assert_eq!(scene.answers()?, ["world"; 4]);
    assert!(theirs.exists(), "the foreign pin is gone");
    fs::remove_file(theirs)?;
    assert_eq!(scene.ctl.run(&["uninstall", "--yes"]).status, Some(0));
    Ok(())
}
