//! Redirection does not depend on the process that set it up.

use std::{path::Path, time::Duration};

use redirect_testkit::{cases, wait_until};

use crate::{
    Cases,
    Needs::Pods,
    Tested,
    scene::{SERVICE, Scene, server_at},
};

pub(crate) const CASES: &[Cases] = cases! {
    Pods => [
        redirection_goes_on_without_a_process,
        the_next_exec_cleans_up_a_killed_one,
    ],
};

fn redirection_goes_on_without_a_process() -> Tested {
    let scene = Scene::new("gone")?;
    assert_eq!(scene.answers()?, ["world"; 4]);
    scene.ok(&["attach", "-i", "*", "-x", "198.51.100.0/24,2001:db8:1::/48"]);
    // The command has ended. Old and new processes of both users are redirected.
    assert_eq!(scene.answers()?, ["proxy", "proxy", "world", "world"]);
    assert_eq!(server_at(&scene.root()?, SERVICE[0])?, "proxy");
    scene.ok(&["detach"]);
    assert_eq!(scene.answers()?, ["world"; 4]);
    Ok(())
}

fn the_next_exec_cleans_up_a_killed_one() -> Tested {
    let scene = Scene::new("killed")?;
    let root = scene.root()?;
    let ctl = &scene.ctl;
    let exec = root.start(
        &ctl.argv(&["exec", "--", "sh", "-c", "echo up; sleep 1000"]),
        "",
    )?;
    assert!(wait_until(Duration::from_secs(10), || root
        .log(exec)
        .unwrap()
        .contains("up")));
    let folder = scene
        .pod
        .cgroup()
        .app()
        .join(format!("redirect-exec-{}", exec.pid));
    assert!(folder.is_dir(), "{}", folder.display());
    root.kill(exec)?;
    // The command survives the kill, and so does its redirection.
    assert_eq!(ctl.json(&["list"]).as_array().unwrap().len(), 1);
    end_all(&folder);
    // The next exec removes the cgroup, collects the pins, and leaves nothing of its own.
    let next = root.run(&ctl.argv(&["exec", "--", "true"]))?;
    assert!(next.is_success(), "{next:?}");
    assert!(!folder.exists(), "{}", folder.display());
    assert_eq!(ctl.tree(), Vec::<String>::new());
    let leftover = cgroups_below(&scene.pod.cgroup().app());
    assert_eq!(leftover, Vec::<String>::new());
    Ok(())
}

/// Kills every process of a cgroup, and waits for their end.
fn end_all(folder: &Path) {
    std::fs::write(folder.join("cgroup.kill"), "1").unwrap();
    assert!(wait_until(Duration::from_secs(10), || {
        let events = std::fs::read_to_string(folder.join("cgroup.events"));
        events.is_ok_and(|events| events.contains("populated 0"))
    }));
}

/// The names of the cgroups directly below a folder.
pub(crate) fn cgroups_below(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().flatten();
    let folders = entries.filter(|entry| entry.path().is_dir());
    folders
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect()
}
