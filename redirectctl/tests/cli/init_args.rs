//! The arguments and the environment of an init container, used unchanged.

use redirect_testkit::cases;
use serde_json::{Value, json};

use crate::{Cases, Needs::Pods, Tested, scene::Scene};

pub(crate) const CASES: &[Cases] = cases! {
    Pods => [
        istio_init_arguments_work_unchanged,
        flags_override_variables_and_variables_override_defaults,
    ],
};

/// The arguments for `istio-iptables` that the injection template renders by default.
const ISTIO_INIT: &[&str] = &[
    "-p",
    "15001",
    "-z",
    "15006",
    "-u",
    "1337",
    "-m",
    "REDIRECT",
    "-i",
    "*",
    "-x",
    "",
    "-b",
    "*",
    "-d",
    "15090,15021,15020",
];

fn config(scene: &Scene) -> Value {
    scene.ctl.json(&scene.with_cgroup(&["show"]))["config"].clone()
}

fn istio_init_arguments_work_unchanged() -> Tested {
    let scene = Scene::new("init")?;
    let plain = json!({
        "out_port": 15001, "in_port": 15006, "tunnel_port": 15008, "proxy_uids": [1337], "proxy_gids": [1337],
        "owner_groups": "*", "owner_groups_exclude": [],
        "include": "*", "exclude": [], "include_ports": [], "exclude_ports": [], "exclude_interfaces": [],
        "loopback4": "127.0.0.1/32", "dns": {"redirect": false, "capture_all": false, "servers": []},
        "dual_stack": true,
        "inbound": {"mode": "REDIRECT", "include_ports": "*", "exclude_ports": ["15020:15021", "15090"]},
        "shadow": false,
    });
    // Later releases add options for the log of istio-iptables, and for other backends.
    let later: &[&[&str]] = &[
        &[],
        &["--log_output_level=default:info"],
        &[
            "--log_output_level=default:info",
            "--log_as_json",
            "--force-apply",
            "--native-nftables",
        ],
    ];
    for more in later {
        let args = [&["attach"], ISTIO_INIT, *more].concat();
        let ran = scene.ctl.run(&scene.with_cgroup(&args));
        assert!(
            ran.stderr.lines().all(|line| line.starts_with("warning: ")),
            "{ran:?}"
        );
        ran.ok();
        assert_eq!(config(&scene), plain, "{more:?}");
        assert_eq!(scene.answers()?, ["proxy"; 4]);
        scene.ok(&["detach"]);
    }
    // The last value of a repeated flag wins, as with Go's flags.
    let args = [&["attach"], ISTIO_INIT, &["-p", "15002"]].concat();
    scene.ok(&args);
    assert_eq!(scene.answers()?, ["other"; 4]);
    Ok(())
}

fn flags_override_variables_and_variables_override_defaults() -> Tested {
    let scene = Scene::new("env")?;
    let variables = [
        ("ISTIO_SERVICE_CIDR", "*"),
        ("ISTIO_SERVICE_EXCLUDE_CIDR", "36.152.44.0/24"),
        ("ISTIO_OUTBOUND_PORTS", "8080"),
        ("PROXY_UID", "1400,1337"),
        ("ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE", "7,root,7"),
        ("INBOUND_CAPTURE_PORT", "16006"),
        // No option reads this variable.
        ("ENVOY_PORT", "15002"),
        // The second name wins. A malformed switch is not a value.
        ("INVALID_DROP", "false"),
        ("DROP_INVALID", "true"),
        ("DRY_RUN", "maybe"),
    ];
    let attach = scene.with_cgroup(&["attach", "-x", "198.51.100.0/24", "--proxy-gid", "1500"]);
    scene.ctl.run_with(&attach, &variables).ok();
    let seen = config(&scene);
    for (key, expected) in [
        ("include", json!("*")),
        ("exclude", json!(["198.51.100.0/24"])),
        ("include_ports", json!(["8080"])),
        ("proxy_uids", json!([1400, 1337])),
        ("proxy_gids", json!([1500])),
        ("owner_groups", json!("*")),
        ("owner_groups_exclude", json!([0, 7])),
        ("in_port", json!(16006)),
        ("out_port", json!(15001)),
    ] {
        assert_eq!(seen[key], expected, "{key}");
    }
    assert_eq!(scene.answers()?, ["proxy", "proxy", "world", "proxy"]);
    // An empty flag is a value. update reads the same environment.
    scene
        .ctl
        .run_with(
            &scene.with_cgroup(&["update", "-x", "", "-q", ""]),
            &variables,
        )
        .ok();
    assert_eq!(config(&scene)["exclude"], json!([]));
    scene
        .ctl
        .run_with(&scene.with_cgroup(&["update"]), &variables)
        .ok();
    assert_eq!(scene.answers()?, ["world", "proxy", "proxy", "proxy"]);
    Ok(())
}
