//! `exec`: the status, input and output of the command, and nothing left behind.

use std::{fs, time::Duration};

use redirect_testkit::{ProgramOutput, cases, wait_until};
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    Cases,
    Needs::Pods,
    Tested,
    ctl::{Args, BINARY, TempFile},
    persistence::cgroups_below,
    scene::{SECOND_SERVICE, SERVICE, Scene},
};

pub(crate) const CASES: &[Cases] = cases! {
    Pods => [
        exec_passes_the_status_on,
        exec_passes_input_and_output_on,
        exec_passes_sigterm_on_and_cleans_up,
        exec_leaves_grandchildren_undisturbed,
        exec_redirects_its_command_only,
        exec_starts_a_proxy,
        exec_starts_a_proxy_with_a_registry,
        exec_runs_inside_exec,
        several_execs_run_side_by_side,
        execs_with_equal_process_ids_run_side_by_side,
    ],
};

/// A script that connects and prints the first line. Not every machine has `curl`.
const DIAL: &str = "exec 3<>/dev/tcp/$0/80 && head -1 <&3";

fn exec(scene: &Scene, args: &[&str]) -> anyhow::Result<ProgramOutput> {
    scene
        .root()?
        .run(&scene.ctl.argv(&[&["exec"], args].concat()))
}

#[track_caller]
fn assert_nothing_left(scene: &Scene) {
    assert_eq!(scene.ctl.tree(), Vec::<String>::new());
    assert_eq!(
        cgroups_below(&scene.pod.cgroup().app()),
        Vec::<String>::new()
    );
}

fn exec_passes_the_status_on() -> Tested {
    let scene = Scene::new("status")?;
    let rows: &[(Args<'_>, i32, &str)] = &[
        (&["--", "true"], 0, ""),
        (&["--", "sh", "-c", "exit 7"], 7, ""),
        (&["--", "sh", "-c", "kill -9 $$"], 137, ""),
        (&["--", "sh", "-c", "kill -TERM $$"], 143, ""),
        (
            &["--", "/etc/passwd"],
            126,
            "error: run \"/etc/passwd\": Permission denied",
        ),
        (
            &["--", "/no/such"],
            127,
            "error: run \"/no/such\": No such file",
        ),
        (
            &["-x", "nonsense", "--", "true"],
            2,
            "error: parse -x/--istio-service-exclude-cidr",
        ),
        (
            &[
                "--with-proxy",
                "registry-only",
                "--registry",
                "/no/such",
                "--",
                "true",
            ],
            125,
            "/no/such",
        ),
        (
            &["--with-proxy", "some", "--", "true"],
            2,
            "invalid value 'some'",
        ),
        (&[], 2, "<COMMAND>"),
    ];
    for (args, status, message) in rows {
        let ran = exec(&scene, args)?;
        assert_eq!(ran.status, Some(*status), "{args:?}: {ran:?}");
        assert!(ran.stderr.contains(*message), "{args:?}: {ran:?}");
        assert_eq!(
            ran.stderr.is_empty(),
            message.is_empty(),
            "{args:?}: {ran:?}"
        );
        assert_nothing_left(&scene);
    }
    Ok(())
}

fn exec_passes_input_and_output_on() -> Tested {
    let scene = Scene::new("pipes")?;
    let root = scene.root()?;
    let script = "cat; echo to stderr >&2; echo done";
    let running = root.start(
        &scene.ctl.argv(&["exec", "--", "sh", "-c", script]),
        "fed\n",
    )?;
    assert!(wait_until(Duration::from_secs(10), || !root
        .is_alive(running)
        .unwrap()));
    let log = root.log(running)?;
    assert!(
        ["fed\n", "to stderr\n", "done\n"]
            .iter()
            .all(|line| log.contains(line)),
        "{log}"
    );
    assert_nothing_left(&scene);
    Ok(())
}

fn exec_passes_sigterm_on_and_cleans_up() -> Tested {
    let scene = Scene::new("sigterm")?;
    let root = scene.root()?;
    let script = "trap 'echo ended; exit 9' TERM; echo up; while :; do sleep 0.02; done";
    // A shell around the command prints the status.
    let outer = "\"$@\" & pid=$!; echo pid $pid; wait $pid; echo status $?";
    let argv = [
        &["sh", "-c", outer, "sh"],
        &scene.ctl.argv(&["exec", "--", "sh", "-c", script])[..],
    ]
    .concat();
    let running = root.start(&argv, "")?;
    let log = || root.log(running).unwrap();
    assert!(
        wait_until(Duration::from_secs(10), || log().contains("up\n")),
        "{}",
        log()
    );
    let pid = log()
        .lines()
        .find_map(|line| line.strip_prefix("pid ")?.parse().ok())
        .unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM)?;
    assert!(
        wait_until(Duration::from_secs(10), || log().contains("status")),
        "{}",
        log()
    );
    assert!(
        log().contains("ended\n") && log().contains("status 9\n"),
        "{}",
        log()
    );
    assert_nothing_left(&scene);
    Ok(())
}

fn exec_leaves_grandchildren_undisturbed() -> Tested {
    let scene = Scene::new("orphan")?;
    let ran = exec(
        &scene,
        &["--", "sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!"],
    )?;
    assert!(ran.is_success(), "{ran:?}");
    let cgroup = fs::read_to_string(format!("/proc/{}/cgroup", ran.stdout.trim()))?;
    let app = scene.pod.cgroup().app();
    assert!(
        cgroup.trim_end().ends_with("/app") && app.ends_with("app"),
        "{cgroup}"
    );
    assert_nothing_left(&scene);
    Ok(())
}

fn exec_redirects_its_command_only() -> Tested {
    let scene = Scene::new("only")?;
    let root = scene.root()?;
    let script = "exec 3<>/dev/tcp/$0/80 && head -1 <&3; echo up; sleep 1000";
    let argv = scene.ctl.argv(&[
        "exec",
        "-x",
        "198.51.100.0/24",
        "--",
        "bash",
        "-c",
        script,
        SERVICE[0],
    ]);
    let running = root.start(&argv, "")?;
    let log = || root.log(running).unwrap();
    assert!(
        wait_until(Duration::from_secs(10), || log().contains("up\n")),
        "{}",
        log()
    );
    // The pod's proxy answers: it listens in the same namespace.
    assert!(log().contains("\"server\":\"proxy\""), "{}", log());
    // The rest of the pod is not redirected.
    assert_eq!(scene.answers()?, ["world"; 4]);
    kill_process(
        Pid::from_raw(i32::try_from(running.pid)?).unwrap(),
        Signal::TERM,
    )?;
    assert!(wait_until(Duration::from_secs(10), || !root
        .is_alive(running)
        .unwrap()));
    assert_nothing_left(&scene);
    Ok(())
}

fn exec_starts_a_proxy() -> Tested {
    let scene = Scene::new("sidecar")?;
    for address in [SERVICE[0], SERVICE[1]] {
        let args = [
            "-p",
            "15009",
            "--with-proxy",
            "allow-any",
            "--",
            "bash",
            "-c",
            DIAL,
            address,
        ];
        let ran = exec(&scene, &args)?;
        assert!(
            ran.is_success() && ran.stdout.contains("\"server\":\"world\""),
            "{ran:?}"
        );
        let logged = ran
            .stderr
            .lines()
            .find(|line| line.starts_with("proxy: forwarded"));
        assert!(logged.is_some_and(|line| line.contains(address)), "{ran:?}");
        assert_nothing_left(&scene);
    }
    // The pod's own proxy has taken the default port.
    let ran = exec(&scene, &["--with-proxy", "allow-any", "--", "true"])?;
    assert_eq!(ran.status, Some(125), "{ran:?}");
    assert!(ran.stderr.contains("15001"), "{ran:?}");
    assert_nothing_left(&scene);
    Ok(())
}

fn exec_starts_a_proxy_with_a_registry() -> Tested {
    let scene = Scene::new("registry")?;
    let registry = TempFile::new("hosts", format!("# the story's\n{}:80\n", SERVICE[0]));
    for (address, said, verdict) in [
        (SERVICE[0], "\"server\":\"world\"", "proxy: forwarded"),
        (SECOND_SERVICE[0], "", "proxy: blackholed"),
    ] {
        let sidecar = [
            "-p",
            "15009",
            "--with-proxy",
            "registry-only",
            "--registry",
            registry.path(),
        ];
        let ran = exec(
            &scene,
            &[&sidecar[..], &["--", "bash", "-c", DIAL, address]].concat(),
        )?;
        assert!(
            ran.stdout.contains(said) && ran.stdout.is_empty() == said.is_empty(),
            "{ran:?}"
        );
        let logged = ran.stderr.lines().find(|line| line.starts_with(verdict));
        assert!(logged.is_some_and(|line| line.contains(address)), "{ran:?}");
        assert_nothing_left(&scene);
    }
    Ok(())
}

fn exec_runs_inside_exec() -> Tested {
    let scene = Scene::new("nested")?;
    let inner = [
        BINARY,
        "--bpffs",
        scene.ctl.bpffs(),
        "exec",
        "--",
        "sh",
        "-c",
        "echo in; exit 5",
    ];
    let ran = exec(&scene, &[&["--"], &inner[..]].concat())?;
    assert_eq!(
        (ran.status, ran.stdout.as_str()),
        (Some(5), "in\n"),
        "{ran:?}"
    );
    assert_nothing_left(&scene);
    Ok(())
}

/// Each exec may remove the state directory while the next one waits for the lock.
fn several_execs_run_side_by_side() -> Tested {
    let scene = Scene::new("beside")?;
    let script = "for i in 1 2 3 4 5 6 7 8; do \"$@\" & done; wait; echo all";
    let exec = scene.ctl.argv(&["exec", "--", "echo", "one"]);
    let ran = scene
        .root()?
        .run(&[&["sh", "-c", script, "sh"], &exec[..]].concat())?;
    assert_eq!(ran.stderr, "");
    assert_eq!(ran.stdout, format!("{}all\n", "one\n".repeat(8)));
    assert_nothing_left(&scene);
    Ok(())
}

/// Each `exec` is the first process of a PID namespace, so that all have the id 1 there.
fn execs_with_equal_process_ids_run_side_by_side() -> Tested {
    let scene = Scene::new("equal")?;
    let script = "for i in 1 2 3 4; do unshare --pid --fork --mount-proc \"$@\" & done; wait";
    let exec = scene
        .ctl
        .argv(&["exec", "--", "bash", "-c", DIAL, SERVICE[0]]);
    let ran = scene
        .root()?
        .run(&[&["sh", "-c", script, "sh"], &exec[..]].concat())?;
    let answers = ran.stdout.matches("\"server\":\"proxy\"").count();
    assert_eq!((ran.stderr.as_str(), answers), ("", 4), "{}", ran.stdout);
    assert_nothing_left(&scene);
    Ok(())
}
