//! Commands that need the network namespace of a pod without processes.

use redirect_testkit::cases;

use crate::{Cases, Needs::Pods, Tested, bad_input::assert_refused, scene::Scene};

pub(crate) const CASES: &[Cases] = cases! {
    Pods => [update_asks_for_the_namespace_of_a_pod_without_processes],
};

fn update_asks_for_the_namespace_of_a_pod_without_processes() -> Tested {
    let scene = Scene::new("no-netns")?;
    let empty = scene.pod.second_cgroup("empty")?;
    let cgroup = ["--cgroup", empty.path().to_str().unwrap()];
    let namespace = scene.pod.namespace();
    let named = ["--netns", namespace.to_str().unwrap()];
    let attach = [&["attach"], &cgroup[..], &named, &["-i", "*"]].concat();
    scene.ctl.ok(&attach);
    for options in [&["--dual-stack"][..], &["-c", "eth0"], &["-b", "*"]] {
        let before = scene.ctl.json(&["list"]);
        let update = [&["update"], &cgroup[..], options].concat();
        let said = [
            options[0],
            "no process is in the cgroup to show the pod's network namespace: name it with --netns",
        ];
        assert_refused(&scene.ctl.run(&update), 1, &said);
        assert_eq!(scene.ctl.json(&["list"]), before);
        // The remedy of the message helps.
        scene.ctl.ok(&[&update, &named[..]].concat());
        scene
            .ctl
            .ok(&[&["update"], &cgroup[..], &named, &["-i", "*"]].concat());
    }
    Ok(())
}
