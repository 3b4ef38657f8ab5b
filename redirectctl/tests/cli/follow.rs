//! `redirectctl follow`.

use std::time::Duration;

use redirect_testkit::{Identity, cases, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Deserializer, Value};

use crate::{Cases, Needs::Pods, Tested, scene::Scene};

pub(crate) const CASES: &[Cases] = cases! {
    Pods => [follow_prints_changes_until_it_is_interrupted],
};

const PATIENCE: Duration = Duration::from_secs(30);

fn follow_prints_changes_until_it_is_interrupted() -> Tested {
    let scene = Scene::new("follow")?;
    scene.ok(&["attach", "-i", "*"]);
    let root = scene.pod.worker(&Identity::root())?;
    let start = |args: &[&str]| root.start(&scene.ctl.argv(&[&["follow"], args].concat()), "");
    let [text, json] = [start(&[])?, start(&["--output", "json"])?];
    let prints = |process, text: &str| {
        let seen = wait_until(PATIENCE, || root.log(process).unwrap().contains(text));
        assert!(seen, "no {text}: {}", root.log(process).unwrap());
    };
    prints(text, "following network namespace pid:");
    prints(json, "\"followed\"");
    let ip = |line: &str| {
        let argv: Vec<&str> = ["ip"].into_iter().chain(line.split(' ')).collect();
        assert!(root.run(&argv).unwrap().is_success(), "{line}");
    };
    ip("addr add 10.77.0.8/24 dev eth0");
    // One of the two processes prints the change; the other finds it done.
    let logs = || [text, json].map(|process| root.log(process).unwrap());
    assert!(
        wait_until(PATIENCE, || logs().concat().contains("10.77.0.8/32")),
        "{:?}",
        logs()
    );
    let explained = scene.ok(&["explain", "--uid", "1337", "--dst", "10.77.0.8:80"]);
    assert!(explained.contains("uid-to-self"), "{explained}");
    scene.ok(&["detach"]);
    prints(text, "no longer attached");
    prints(json, "\"gone\"");
    for (process, signal) in [(text, Signal::INT), (json, Signal::TERM)] {
        kill_process(Pid::from_raw(i32::try_from(process.pid)?).unwrap(), signal)?;
        let ended = || !root.is_alive(process).unwrap();
        assert!(wait_until(PATIENCE, ended));
    }
    for line in Deserializer::from_str(&root.log(json)?).into_iter::<Value>() {
        assert_eq!(line?["cgroup"], scene.cgroup());
    }
    Ok(())
}
