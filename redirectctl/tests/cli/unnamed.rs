//! What needs the pod's network namespace, where nothing is there to find it by.

use redirect_testkit::cases;

use crate::{Cases, Needs::Pods, Tested, bad_input::assert_refused, scene::Scene};

pub(crate) const CASES: &[Cases] = cases! {
    Pods => [without_a_process_an_update_asks_for_the_namespace],
};

fn without_a_process_an_update_asks_for_the_namespace() -> Tested {
    let scene = Scene::new("unnamed")?;
    let empty = scene.pod.second_cgroup("empty")?;
    let about = ["--cgroup", empty.path().to_str().unwrap()];
    let namespace = scene.pod.namespace();
    let named = ["--netns", namespace.to_str().unwrap()];
    let attach = [&["attach"], &about[..], &named, &["-i", "*"]].concat();
    scene.ctl.ok(&attach);
    for options in [&["--dual-stack"][..], &["-c", "eth0"], &["-b", "*"]] {
        let before = scene.ctl.json(&["list"]);
        let update = [&["update"], &about[..], options].concat();
        let said = [
            options[0],
            "no process is in the cgroup to show the pod's network namespace: name it with --netns",
        ];
        assert_refused(&scene.ctl.run(&update), 1, &said);
        assert_eq!(scene.ctl.json(&["list"]), before);
        // The remedy that the message gives.
        scene.ctl.ok(&[&update, &named[..]].concat());
        scene
            .ctl
            .ok(&[&["update"], &about[..], &named, &["-i", "*"]].concat());
    }
    Ok(())
}
