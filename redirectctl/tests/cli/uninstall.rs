//! `uninstall`: everything that is ours goes, whoever made it; what is not stays.

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
    ctl::{Ran, version, version_of},
    scene::Scene,
};

pub(crate) const CASES: &[Cases] = cases! {
    Pods => [
        uninstall_ends_every_pod,
        uninstall_removes_another_version,
        uninstall_leaves_and_names_what_is_foreign,
    ],
};

fn uninstall_ends_every_pod() -> Tested {
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
    // Without being told to, it says which would end, and ends none.
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

/// What is said when so many pods, and the programs and maps of so many versions, are removed, and so many
/// links had gone before.
fn removed(pods: usize, versions: usize, gone: usize) -> String {
    let of_each = Hook::ALL.len() + MapName::ALL.len() + [IDS, META, POLICIES].len();
    let pins = versions * of_each + pods * Hook::ALL.len() - gone;
    let plural = if pods == 1 { "" } else { "s" };
    format!("detached {pods} cgroup{plural}, removed {pins} pins\n")
}

/// A later version's state, as far as this one can tell: the same layout under another number,
/// with links that work.
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
    // Both versions on one pod: ours takes over, theirs still answers, and both go.
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

fn uninstall_leaves_and_names_what_is_foreign() -> Tested {
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
        let Ran {
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
    // Ours has ended nevertheless, and can begin again once its place is free.
    assert_eq!(scene.answers()?, ["world"; 4]);
    for path in &theirs[1..] {
        fs::remove_dir(path)?;
    }
    scene.ok(&["attach", "-i", "*"]);
    assert_eq!(scene.answers()?, ["proxy"; 4]);
    Ok(())
}
