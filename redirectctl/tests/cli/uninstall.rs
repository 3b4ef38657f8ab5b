//! `uninstall` removes the state of every version, and keeps foreign files.

use std::fs;

use redirect_common::{
    abi::{IDS, META, MapName, POLICIES},
    hooks::Hook,
};
use redirect_testkit::cases;

use crate::{
    Cases,
    Needs::Pods,
    Tested,
    bad_input::assert_refused,
    ctl::{CommandOutput, version, version_of},
    scene::Scene,
};

pub(crate) const CASES: &[Cases] = cases! {
    Pods => [
        uninstall_detaches_every_pod,
        uninstall_removes_another_version,
        uninstall_keeps_and_names_foreign_files,
    ],
};

fn uninstall_detaches_every_pod() -> Tested {
    let scene = Scene::new("all")?;
    assert_eq!(
        scene.ctl.ok(&["uninstall", "--yes"]),
        "detached 0 cgroups, removed 0 pins\n"
    );
    let second = scene.pod.second_cgroup("second")?;
    scene.ok(&["attach", "-i", "*"]);
    scene.ctl.ok(&[
        "attach",
        "--cgroup",
        second.path().to_str().unwrap(),
        "-i",
        "*",
    ]);
    // Without --yes, the command names the cgroups that it would detach, and detaches none.
    let ran = scene.ctl.run(&["uninstall"]);
    let said = [
        "2 cgroups",
        scene.cgroup(),
        second.path().to_str().unwrap(),
        "--yes",
    ];
    assert_refused(&ran, 1, &said);
    assert_eq!(scene.answers()?, ["proxy"; 4]);
    assert_eq!(scene.ctl.ok(&["uninstall", "--yes"]), removed(2, 1, 0));
    assert_eq!(scene.answers()?, ["world"; 4]);
    assert_eq!(scene.ctl.tree(), Vec::<String>::new());
    Ok(())
}

/// The output after a number of pods, and the programs and maps of a number of versions, are removed. `gone` is the
/// number of links that were removed before.
fn removed(pods: usize, versions: usize, gone: usize) -> String {
    let maps = [IDS, META, POLICIES, "GROUPS-0"].len() + MapName::ALL.len();
    let of_each = Hook::ALL.len() + maps;
    let pins = versions * of_each + pods * Hook::ALL.len() - gone;
    let plural = if pods == 1 { "" } else { "s" };
    format!("detached {pods} cgroup{plural}, removed {pins} pins\n")
}

/// The state of another version is imitated by this layout under another number, with working links.
fn uninstall_removes_another_version() -> Tested {
    let scene = Scene::new("version")?;
    scene.ok(&["attach", "-i", "*"]);
    let folder = scene.ctl.folder().to_owned();
    fs::rename(folder.join(version()), folder.join(version_of(999)))?;
    fs::create_dir(folder.join(version_of(998) + "-new"))?;
    assert_eq!(scene.answers()?, ["proxy"; 4]);
    assert!(
        scene
            .ctl
            .ok(&["list"])
            .starts_with("nothing is attached in ")
    );
    // Both versions are on one pod: this version takes over, the other still answers, and uninstall removes both.
    scene.ok(&["attach", "-i", "*"]);
    let deciding = ["connect4", "connect6", "send_msg4", "send_msg6"];
    assert_eq!(
        scene.ctl.ok(&["uninstall", "--yes"]),
        removed(2, 2, deciding.len())
    );
    assert_eq!(scene.answers()?, ["world"; 4]);
    assert_eq!(scene.ctl.tree(), Vec::<String>::new());
    Ok(())
}

fn uninstall_keeps_and_names_foreign_files() -> Tested {
    let scene = Scene::new("foreign")?;
    scene.ok(&["attach", "-i", "*"]);
    let folder = scene.ctl.folder().to_owned();
    let ours = folder.join(version());
    let theirs = [
        folder.join("other"),
        ours.join("mine"),
        ours.join("pods/pod"),
        ours.join("maps/sub"),
        folder.join("vx"),
    ];
    for path in &theirs {
        fs::create_dir(path)?;
    }
    fs::hard_link(ours.join("maps/PORTS"), folder.join("other/pinned"))?;
    for removed in [removed(1, 1, 0), removed(0, 0, 0)] {
        let CommandOutput {
            status,
            stdout,
            stderr,
            ..
        } = scene.ctl.run(&["uninstall", "--yes"]);
        assert_eq!((status, stdout), (Some(1), removed), "{stderr}");
        assert_eq!(stderr.matches("error:").count(), 1, "{stderr}");
        for path in &theirs {
            assert!(
                path.exists() && stderr.contains(&format!("\"{}\"", path.display())),
                "{stderr}"
            );
        }
        assert_eq!(
            stderr.matches('"').count(),
            2 * (theirs.len() + 1),
            "only those: {stderr}"
        );
    }
    assert!(folder.join("other/pinned").exists());
    // Redirection has ended nevertheless, and works again once the foreign files are gone.
    assert_eq!(scene.answers()?, ["world"; 4]);
    for path in &theirs[1..] {
        fs::remove_dir(path)?;
    }
    scene.ok(&["attach", "-i", "*"]);
    assert_eq!(scene.answers()?, ["proxy"; 4]);
    Ok(())
}
