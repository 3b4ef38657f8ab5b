//! The commands' output about inbound connections.

use std::time::Duration;

use redirect_testkit::{Pod, cases, wait_until};

use crate::{Cases, Needs::Pods, Tested, scene::Scene};

pub(crate) const CASES: &[Cases] = cases! {
    Pods => [
        inbound_connections_are_explained_and_counted,
        an_unknown_address_is_warned_about,
        the_inbound_forwarder_must_not_run_as_the_proxys_user,
        exec_leaves_inbound_connections_alone,
    ],
};

/// The rule, the target and the iptables rule of a connection to a port of the pod.
fn explained(scene: &Scene, from: &str, port: u16) -> (String, String, String) {
    let to = format!("{}:{port}", Pod::V4);
    let args = ["explain", "--inbound", "--src", from, "--dst", &to];
    let said = scene.ctl.json(&scene.with_cgroup(&args));
    let text = |field: &str| said[field].as_str().unwrap_or_default().to_owned();
    (text("rule"), text("target"), text("iptables"))
}

fn inbound_connections_are_explained_and_counted() -> Tested {
    let scene = Scene::new("arriving")?;
    scene.ok(&["attach", "-b", "*", "-d", "15020,9000", "--dual-stack"]);
    assert_eq!(scene.inbound_answers()?, ["inbound", "inbound"]);
    let list = scene.ctl.json(&["list"]);
    assert_eq!(list[0]["redirected_in"], 2, "{list}");
    let chain = scene.ok(&["rules"]);
    let counted = chain.lines().find(|line| line.contains("in-any-included"));
    let words: Vec<_> = counted.unwrap().split_whitespace().collect();
    assert_eq!(words[..3], ["2", "in", "in-any-included"], "{chain}");
    assert!(!chain.contains("before the last update"), "{chain}");

    let owned = |rule: &str, target: &str, iptables: &str| {
        (rule.to_owned(), target.to_owned(), iptables.to_owned())
    };
    assert_eq!(
        explained(&scene, "10.77.0.1", 8080),
        owned(
            "in-any-included",
            "10.77.0.2:15006",
            "-A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT"
        )
    );
    assert_eq!(
        explained(&scene, "10.77.0.1", 9000),
        owned(
            "in-port-excluded",
            "10.77.0.2:9000",
            "-A ISTIO_INBOUND -p tcp --dport 9000 -j RETURN"
        )
    );
    assert_eq!(explained(&scene, "127.0.0.6", 8080).0, "in-looped");
    assert_eq!(explained(&scene, "10.77.0.2", 8080).0, "in-looped");

    scene.ok(&["update", "-i", "*"]);
    let args = [
        "explain",
        "--inbound",
        "--src",
        "10.0.0.1",
        "--dst",
        "10.77.0.2:80",
    ];
    let alone = scene.ctl.run(&scene.with_cgroup(&args));
    assert!(alone.stderr.contains("-b was not given"), "{alone:?}");
    let text = alone.ok();
    assert!(text.starts_with("verdict     direct\n"), "{text}");
    let without_owner = scene
        .ctl
        .run(&scene.with_cgroup(&["explain", "--dst", "10.0.0.1:80"]));
    assert_eq!(without_owner.status, Some(2), "{without_owner:?}");
    assert!(without_owner.stderr.contains("--uid"), "{without_owner:?}");
    Ok(())
}

fn an_unknown_address_is_warned_about() -> Tested {
    let scene = Scene::new("elsewhere")?;
    scene.ok(&["attach", "-b", "*", "--dual-stack"]);
    for (to, is_warned) in [
        ("10.77.0.2:80", false),
        ("[fd00:77::2]:80", false),
        ("10.77.0.3:80", true),
        ("[fd00:77::3]:80", true),
    ] {
        let from = if to.starts_with('[') {
            "fd00:77::1"
        } else {
            "10.77.0.1"
        };
        let args = ["explain", "--inbound", "--src", from, "--dst", to];
        let ran = scene.ctl.run(&scene.with_cgroup(&args));
        assert_eq!(ran.status, Some(0), "{ran:?}");
        assert_eq!(
            ran.stderr.contains("not known as an address of the pod"),
            is_warned,
            "{ran:?}"
        );
    }
    Ok(())
}

fn the_inbound_forwarder_must_not_run_as_the_proxys_user() -> Tested {
    let scene = Scene::new("forwarder-in")?;
    scene.ok(&["attach", "-b", "*", "-z", "15016"]);
    let root = scene.root()?;
    let [to, _] = scene.inbound_answers()?;
    assert_eq!(to, "refused");
    for (user, answer, said) in [
        (
            "1337",
            "Connected(Closed)",
            "run the forwarder as another user, such as --uid 0",
        ),
        ("0", "app", "forwarded"),
    ] {
        let argv = scene
            .ctl
            .argv(&["proxy", "--listen", "15016", "--uid", user]);
        let proxy = root.start(&argv, "")?;
        let log = |text: &str| {
            wait_until(Duration::from_secs(10), || {
                root.log(proxy).unwrap().contains(text)
            })
        };
        assert!(log("listening on port 15016"));
        let [server, _] = scene.inbound_answers()?;
        assert_eq!(server, answer);
        assert!(log(said), "{}", root.log(proxy)?);
        root.kill(proxy)?;
    }
    Ok(())
}

fn exec_leaves_inbound_connections_alone() -> Tested {
    let scene = Scene::new("exec-in")?;
    let root = scene.root()?;
    let argv = scene.ctl.argv(&["exec", "-b", "*", "--", "true"]);
    let done = root.run(&argv)?;
    assert!(done.is_success(), "{done:?}");
    assert!(
        done.stderr.contains("-b: ") && done.stderr.contains("left alone"),
        "{done:?}"
    );
    Ok(())
}
