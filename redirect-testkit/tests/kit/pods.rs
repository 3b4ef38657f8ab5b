// SPDX-License-Identifier: MIT OR Apache-2.0
//! The parts of a pod, and their removal.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "one test runs this binary again"
)]

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use redirect_testkit::{Identity, Pod, WorkerCgroup, World, wait_until};

use crate::Tested;

pub(crate) fn a_worker_has_its_identity() -> Tested {
    let pod = Pod::new("identity")?;
    let second = pod.second_cgroup("second")?;
    let inner = pod.cgroup().child("init")?;
    let show =
        "id -u; id -g; id -G; sed -n s/^0:://p /proc/self/cgroup; readlink /proc/self/ns/net";
    let mut namespaces = Vec::new();
    for (identity, expected) in [
        (Identity::app().groups([7, 8]), "1000\n1000\n1000 7 8\n"),
        (Identity::proxy(), "1337\n1337\n1337\n"),
        (
            Identity::app()
                .uid(1337)
                .cgroup(WorkerCgroup::Folder(second.app())),
            "1337\n1000\n1000\n",
        ),
        (
            Identity::root().cgroup(WorkerCgroup::Folder(inner)),
            "0\n0\n0\n",
        ),
    ] {
        let seen = pod.worker(&identity)?.run(&["sh", "-c", show])?;
        assert!(seen.is_success(), "{seen:?}");
        assert!(seen.stdout.starts_with(expected), "{seen:?}");
        let cgroup = seen.stdout.lines().nth(3).unwrap().to_owned();
        let folder = match &identity.cgroup {
            WorkerCgroup::App => pod.cgroup().app(),
            WorkerCgroup::Proxy => pod.cgroup().proxy(),
            WorkerCgroup::Folder(path) => path.clone(),
            WorkerCgroup::Inherited => unreachable!(),
        };
        assert!(
            folder.to_string_lossy().ends_with(&cgroup),
            "{cgroup} is not {}",
            folder.display()
        );
        namespaces.push(seen.stdout.lines().nth(4).unwrap().to_owned());
    }
    assert!(
        namespaces
            .iter()
            .all(|namespace| *namespace == namespaces[0]),
        "{namespaces:?}"
    );
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    assert_ne!(own.to_string_lossy(), namespaces[0].as_str());
    Ok(())
}

pub(crate) fn programs_run_with_the_workers_identity() -> Tested {
    let pod = Pod::new("programs")?;
    let proxy = pod.worker(&Identity::proxy())?;
    let cat = proxy.start(&["sh", "-c", "id -u; cat; exec sleep 1000"], "fed\n")?;
    assert!(wait_until(Duration::from_secs(5), || proxy
        .log(cat)
        .unwrap()
        == "1337\nfed\n"));
    assert!(proxy.is_alive(cat)?);
    proxy.kill(cat)?;
    assert!(!proxy.is_alive(cat)?);
    let missing = proxy.start(&["/no/such/program"], "").unwrap_err();
    assert!(
        format!("{missing:#}").contains("No such file"),
        "{missing:#}"
    );
    Ok(())
}

pub(crate) fn nothing_is_left_behind() -> Tested {
    let pod = Pod::new("left")?;
    let second = pod.second_cgroup("also")?;
    let folders = [pod.cgroup().path().to_owned(), second.path().to_owned()];
    let namespace = pod.namespace();
    let world = World::V4;
    assert!(
        namespace.exists() && folders.iter().all(|folder| folder.exists()),
        "{world}"
    );
    let worker = pod.worker(&Identity::app())?;
    let orphan = pod.worker(&Identity::proxy())?.run(&[
        "sh",
        "-c",
        "sleep 1000 >/dev/null 2>&1 & echo $!",
    ])?;
    let orphan = format!("/proc/{}", orphan.stdout.trim());
    assert!(Path::new(&orphan).exists());
    // The pod is dropped first, while a worker still runs.
    drop((second, pod));
    assert!(worker.connection_counts().is_err());
    assert!(!namespace.exists() && folders.iter().all(|folder| !folder.exists()));
    assert!(!Path::new(&orphan).join("exe").exists());
    Ok(())
}

/// The first run of this binary is the test. The second run, `hold_a_pod`, is killed.
pub(crate) fn a_killed_test_leaves_nothing_behind() -> Tested {
    if std::env::var_os(HOLD).is_some() {
        return hold_a_pod();
    }
    for signal in ["INT", "TERM", "KILL"] {
        // A test runner in the background may ignore SIGINT, which the child would inherit.
        let mut child = Command::new("env")
            .arg("--default-signal=INT,TERM")
            .arg(std::env::current_exe()?)
            .args([
                "--exact",
                "a_killed_test_leaves_nothing_behind",
                "--nocapture",
            ])
            .env(HOLD, "1")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let made = lines
            .find_map(|line| Some(line.ok()?.strip_prefix("made ")?.to_owned()))
            .expect("a pod");
        let paths: Vec<&Path> = made.split(' ').map(Path::new).collect();
        assert!(paths.iter().all(|path| path.exists()), "{paths:?}");
        assert!(
            Command::new("kill")
                .args(["-s", signal, &child.id().to_string()])
                .status()?
                .success()
        );
        assert!(!child.wait()?.success());
        let is_gone = wait_until(Duration::from_secs(20), || {
            !paths.iter().any(|path| path.exists())
        });
        assert!(is_gone, "after SIG{signal}: {paths:?}");
    }
    Ok(())
}

const HOLD: &str = "REDIRECT_TESTKIT_HOLD";

fn hold_a_pod() -> Tested {
    let pod = Pod::new("held")?;
    let worker = pod.worker(&Identity::proxy())?;
    let sleep = worker.start(&["sleep", "1000"], "")?;
    let (namespace, process) = (pod.namespace(), sleep.pid);
    println!(
        "made {} {} /proc/{process}",
        namespace.display(),
        pod.cgroup().path().display()
    );
    wait_until(Duration::from_mins(1), || false);
    Ok(())
}
