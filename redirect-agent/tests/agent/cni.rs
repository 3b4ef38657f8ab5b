//! The real CNI plugin asks the real agent: pods are redirected before they have a process.
#![expect(
    clippy::disallowed_methods,
    reason = "the plugin is run as a container runtime runs it"
)]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::SocketAddr,
    os::unix::{
        fs::{FileTypeExt as _, PermissionsExt as _},
        net::UnixStream,
    },
    process::Command,
    thread,
};

use anyhow::{Context as _, Result, ensure};
use redirect_fake_apiserver::Cluster;
use redirect_testkit::{Dial, Identity, Pod, Serve};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    Test, Tested,
    kube::{EXCLUDED, Kubelet, pod},
    runtime::{Sandbox, feed, plugin},
    scene::{OLD, Scene, who},
};

pub(crate) const TESTS: &[Test] = &[
    (
        "a_pod_is_redirected_before_its_first_process",
        a_pod_is_redirected_before_its_first_process,
    ),
    (
        "a_wrong_annotation_fails_the_start_and_attaches_nothing",
        a_wrong_annotation_fails_the_start_and_attaches_nothing,
    ),
    (
        "a_pod_is_direct_until_its_proxy_listens_if_that_is_asked_for",
        a_pod_is_direct_until_its_proxy_listens_if_that_is_asked_for,
    ),
    (
        "a_pod_that_is_not_ours_starts_untouched",
        a_pod_that_is_not_ours_starts_untouched,
    ),
    (
        "a_sandbox_counts_while_the_source_does_not_know_its_pod",
        a_sandbox_counts_while_the_source_does_not_know_its_pod,
    ),
    (
        "a_new_sandbox_of_a_pod_takes_the_place_of_the_old_one",
        a_new_sandbox_of_a_pod_takes_the_place_of_the_old_one,
    ),
    (
        "the_sidecars_user_is_that_of_the_pods_own_user_namespace",
        the_sidecars_user_is_that_of_the_pods_own_user_namespace,
    ),
    ("pods_are_added_at_once", pods_are_added_at_once),
    (
        "the_api_server_is_asked_until_it_answers",
        the_api_server_is_asked_until_it_answers,
    ),
    (
        "what_is_no_question_is_refused",
        what_is_no_question_is_refused,
    ),
    (
        "the_socket_is_one_agents_and_roots",
        the_socket_is_one_agents_and_roots,
    ),
    (
        "the_installed_plugin_asks_the_agent",
        the_installed_plugin_asks_the_agent,
    ),
];

fn a_pod_is_redirected_before_its_first_process() -> Tested {
    let kubelet = Kubelet::new("first")?;
    let agent = kubelet.start_with_socket();
    let pod = Pod::of_kubelet("first", "first-1")?;
    let world = Scene::outside(&pod)?;
    kubelet.put("first-1", &json!({}));
    agent.until("it is known, and waits", || {
        agent.metric("redirect_agent_workloads", &["state=\"waiting\""]) == 1
    });
    ensure!(kubelet.node.pods().is_empty());
    let ran = kubelet.call("ADD", "first-1", &pod)?;
    ensure!(ran.is_added(), "{ran:?}: {}", agent.log());
    let attached = kubelet.node.pods();
    ensure!(attached.len() == 1);
    ensure!(kubelet.call("CHECK", "first-1", &pod)?.is_quiet());
    // Whoever redirects from here on is the kernel.
    agent.end(Signal::KILL);
    let app = pod.worker(&Identity::app())?;
    ensure!(who(&app)? == "refused", "the proxy is not there yet");
    let scene = Scene::inside(pod, world)?;
    ensure!(scene.who()? == "old" && who(&app)? == "old");
    // The next agent has not been told of the sandbox, and touches nothing.
    let agent = kubelet.start_with_socket();
    ensure!(agent.metric("redirect_agent_actions_total", &[]) == 0);
    ensure!(kubelet.node.pods() == attached);
    let counted = || {
        let labels = ["workload=\"shop/first-1\"", "verdict=\"out\""];
        agent.metric("redirect_connections_total", &labels)
    };
    ensure!(counted() == 3, "{}", counted());
    ensure!(kubelet.call("CHECK", "first-1", &scene.pod)?.is_quiet());
    // It goes twice, the second time without a namespace.
    ensure!(kubelet.call("DEL", "first-1", &scene.pod)?.is_quiet());
    let ran = kubelet.call_about(
        "DEL",
        &Sandbox::gone("first-1", scene.pod.name()),
        &json!({}),
    )?;
    ensure!(ran.is_quiet(), "{ran:?}");
    kubelet
        .server
        .with(|cluster| cluster.delete("shop/first-1"));
    drop(scene);
    drop(app);
    agent.until("let go", || kubelet.node.pods().is_empty());
    let (code, why) = kubelet
        .call_about(
            "CHECK",
            &Sandbox::new("first-1", "x", "/nowhere"),
            &json!({}),
        )?
        .error()?;
    ensure!(
        code == 11 && why.contains("the API server has no such pod"),
        "{why}"
    );
    Ok(())
}

fn a_pod_is_direct_until_its_proxy_listens_if_that_is_asked_for() -> Tested {
    let kubelet = Kubelet::new("direct")?;
    let agent = kubelet.start_with_socket();
    let pod = Pod::of_kubelet("direct", "direct-1")?;
    let world = Scene::outside(&pod)?;
    let annotation = "redirect-ebpf/before-proxy";
    kubelet.put("direct-1", &json!({annotation: "later"}));
    let (_, why) = kubelet.call("ADD", "direct-1", &pod)?.error()?;
    ensure!(
        why.contains(annotation) && why.contains("write held or direct"),
        "{why}"
    );
    kubelet.put("direct-1", &json!({annotation: "direct"}));
    agent.until("its source has said so", || {
        agent.metric("redirect_agent_workloads", &["state=\"waiting\""]) == 1
    });
    let added = kubelet.call("ADD", "direct-1", &pod)?;
    ensure!(added.is_added(), "{added:?}");
    let checked = kubelet.call("CHECK", "direct-1", &pod)?;
    ensure!(checked.is_quiet(), "{checked:?}");
    let app = pod.worker(&Identity::app())?;
    ensure!(who(&app)? == "world", "an init container");
    // Istio's own one, `istio-validation`, comes first: it is the proxy's user, listens at both of its ports for
    // loopback alone, and expects to find itself.
    let validation = pod.worker(&Identity::proxy())?;
    for port in [OLD, 15006] {
        let local = SocketAddr::from(([127, 0, 0, 1], port));
        validation.serve(&Serve::new(&format!("validation:{port}"), local))?;
    }
    let probe = "127.0.0.6:15002".parse()?;
    let dialled = validation.dial(&Dial::to(probe).from("127.0.0.1:0".parse()?))?;
    let greeting = dialled.greeting().context("an answer")?;
    ensure!(
        greeting.server == "validation:15006" && greeting.orig_dst == Some(probe),
        "{greeting:?}"
    );
    // It does not count as the proxy, however often it is looked.
    let passes = || agent.metric("redirect_agent_reconcile_duration_seconds_count", &[]);
    let before = passes();
    agent.until("three passes", || passes() >= before + 3);
    ensure!(who(&app)? == "world", "{}", agent.log());
    drop(validation);
    ensure!(who(&app)? == "world", "the next init container");

    let mut scene = Scene::inside(pod, world)?;
    agent.until("redirected", || scene.is("old"));
    // From now on it is held to its policy.
    scene.end_proxy();
    ensure!(scene.who()? == "refused");
    agent.end(Signal::KILL);
    let agent = kubelet.start_with_socket();
    ensure!(agent.metric("redirect_agent_workloads", &["state=\"attached\""]) == 1);
    ensure!(scene.who()? == "refused");
    Ok(())
}

fn a_wrong_annotation_fails_the_start_and_attaches_nothing() -> Tested {
    let kubelet = Kubelet::new("wrong")?;
    let agent = kubelet.start_with_socket();
    let pod = Pod::of_kubelet("wrong", "wrong-1")?;
    kubelet.put("wrong-1", &json!({(EXCLUDED): "36.152.44.0"}));
    for command in ["ADD", "CHECK"] {
        let (code, why) = kubelet.call(command, "wrong-1", &pod)?.error()?;
        let says = why.contains("pod shop/wrong-1")
            && why.contains(EXCLUDED)
            && why.contains("36.152.44.0");
        ensure!(code == 100 && says, "{command}: {code} {why}");
    }
    ensure!(kubelet.node.pods().is_empty());
    let scene = Scene::of(pod)?;
    ensure!(scene.who()? == "world");
    // Corrected, it starts: the runtime asks again.
    kubelet.put("wrong-1", &json!({}));
    agent.until("the watch has it", || scene.is("old"));
    ensure!(kubelet.call("ADD", "wrong-1", &scene.pod)?.is_added());
    Ok(())
}

fn a_pod_that_is_not_ours_starts_untouched() -> Tested {
    let kubelet = Kubelet::new("notours")?;
    let agent = kubelet.start_with_socket();
    let host = Scene::of(Pod::of_kubelet("host", "notours-host")?)?;
    let plain = Scene::of(Pod::of_kubelet("plain", "notours-plain")?)?;
    kubelet.server.with(|cluster| {
        let mut of_host = pod("notours-host", &json!({}));
        of_host["spec"]["hostNetwork"] = json!(true);
        cluster.put(of_host);
        let mut without = pod("notours-plain", &json!({}));
        without["metadata"]["annotations"] = json!({});
        cluster.put(without);
    });
    for (uid, scene) in [("notours-host", &host), ("notours-plain", &plain)] {
        let ran = kubelet.call("ADD", uid, &scene.pod)?;
        ensure!(ran.is_added(), "{ran:?}: {}", agent.log());
        ensure!(kubelet.call("CHECK", uid, &scene.pod)?.is_quiet());
        ensure!(scene.who()? == "world");
    }
    ensure!(kubelet.node.pods().is_empty());
    // A sandbox that is said to be in the node's own namespace is refused.
    kubelet.put("notours-ours", &json!({}));
    let in_node = Sandbox::new("notours-ours", "s", "/proc/self/ns/net");
    let (code, why) = kubelet.call_about("ADD", &in_node, &json!({}))?.error()?;
    ensure!(code == 100 && why.contains("the node's own"), "{why}");
    Ok(())
}

fn a_sandbox_counts_while_the_source_does_not_know_its_pod() -> Tested {
    let kubelet = Kubelet::new("ahead")?;
    let agent = kubelet.start_with_socket();
    let pods = ["ahead-1", "ahead-2"].map(|uid| Ok((uid, Pod::of_kubelet("ahead", uid)?)));
    let pods: Vec<_> = pods.into_iter().collect::<Result<_>>()?;
    kubelet.server.with(|cluster| {
        for (uid, _) in &pods {
            // To the watch it is not on this node yet.
            let mut elsewhere = pod(uid, &json!({}));
            elsewhere["spec"]["nodeName"] = json!("soon");
            cluster.put(elsewhere);
        }
    });
    for (uid, made) in &pods {
        let ran = kubelet.call("ADD", uid, made)?;
        ensure!(ran.is_added(), "{ran:?}: {}", agent.log());
    }
    ensure!(kubelet.node.pods().len() == 2);
    // A list that does not have them changes nothing.
    kubelet.server.with(Cluster::compact);
    kubelet.server.cut();
    kubelet.put("ahead-other", &json!({}));
    agent.until("the list", || {
        agent.metric("redirect_agent_workloads", &[]) == 3
    });
    ensure!(kubelet.node.pods().len() == 2);
    let (_, second) = &pods[1];
    let valid =
        json!({"cni.dev/valid-attachments": [{"containerID": second.name(), "ifname": "eth0"}]});
    let ran = kubelet.call_about("GC", &Sandbox::gone("", ""), &valid)?;
    ensure!(ran.is_quiet(), "{ran:?}");
    agent.until("the first one is let go", || kubelet.node.pods().len() == 1);
    ensure!(kubelet.call("DEL", "ahead-2", second)?.is_quiet());
    agent.until("the second one", || kubelet.node.pods().is_empty());
    let ran = kubelet.call_about("STATUS", &Sandbox::gone("", ""), &json!({}))?;
    ensure!(ran.is_quiet(), "{ran:?}");
    Ok(())
}

fn a_new_sandbox_of_a_pod_takes_the_place_of_the_old_one() -> Tested {
    let kubelet = Kubelet::new("again")?;
    let agent = kubelet.start_with_socket();
    let pod = Pod::of_kubelet("again", "again-1")?;
    let other = Pod::new("again-old")?;
    kubelet.put("again-1", &json!({}));
    let add = |sandbox: &str, of: &Pod| {
        kubelet.call_about(
            "ADD",
            &Sandbox::new("again-1", sandbox, of.namespace()),
            &json!({}),
        )
    };
    ensure!(add("old", &other)?.is_added(), "{}", agent.log());
    let old = kubelet.node.pods();
    ensure!(add("new", &pod)?.is_added(), "{}", agent.log());
    let new = kubelet.node.pods();
    ensure!(new.len() == 1 && new[0].row.netns != old[0].row.netns);
    // The old one goes late.
    let ran = kubelet.call_about("DEL", &Sandbox::gone("again-1", "old"), &json!({}))?;
    ensure!(ran.is_quiet(), "{ran:?}");
    drop(other);
    let ran = kubelet.call("CHECK", "again-1", &pod)?;
    ensure!(ran.is_quiet(), "{ran:?}");
    ensure!(kubelet.node.pods() == new);
    let moved = agent.metric("redirect_agent_actions_total", &["move", "ok"]);
    ensure!(moved == 1, "{}", agent.log());
    let scene = Scene::of(pod)?;
    ensure!(scene.who()? == "old");
    // What arrives has moved as well.
    let proxy = scene.pod.worker(&Identity::proxy())?;
    proxy.serve(&Serve::new("in", "0.0.0.0:15006".parse()?))?;
    let service = "10.77.0.2:8080".parse()?;
    scene.app.serve(&Serve::new("app", service))?;
    let outside = scene.pod.world().worker(&Identity::root())?;
    let dialled = outside.dial(&Dial::to(service))?;
    let greeting = dialled.greeting().context("an answer")?;
    ensure!(
        greeting.server == "in" && greeting.orig_dst == Some(service),
        "{greeting:?}"
    );
    Ok(())
}

/// Outside, it is another one.
fn the_sidecars_user_is_that_of_the_pods_own_user_namespace() -> Tested {
    let kubelet = Kubelet::new("users")?;
    let agent = kubelet.start_with_socket();
    let pod = Pod::of_kubelet_with_user_namespace("users", "users-1")?;
    kubelet.put("users-1", &json!({}));
    let ran = kubelet.call("ADD", "users-1", &pod)?;
    ensure!(ran.is_added(), "{ran:?}: {}", agent.log());
    let scene = Scene::of(pod)?;
    let proxy = scene.pod.worker(&Identity::proxy())?;
    ensure!((scene.who()?, who(&proxy)?) == ("old".into(), "world".into()));
    kubelet.put("users-1", &json!({(EXCLUDED): "36.152.44.0/24"}));
    agent.until("an edited annotation", || scene.is("world"));
    kubelet.put("users-1", &json!({}));
    agent.until("and back", || scene.is("old"));
    ensure!(who(&proxy)? == "world");
    ensure!(kubelet.call("CHECK", "users-1", &scene.pod)?.is_quiet());
    Ok(())
}

fn pods_are_added_at_once() -> Tested {
    let kubelet = Kubelet::new("many")?;
    let agent = kubelet.start_with_socket();
    let uids = ["many-1", "many-2", "many-3"];
    let pods = uids.map(|uid| Ok((uid, Pod::of_kubelet("many", uid)?)));
    let pods: Vec<_> = pods.into_iter().collect::<Result<_>>()?;
    for uid in uids {
        kubelet.put(uid, &json!({}));
    }
    // Each of them twice, as after a runtime's own timeout.
    let calls = pods.iter().chain(&pods);
    let ran = thread::scope(|scope| {
        let started = calls.map(|(uid, pod)| {
            let kubelet = &kubelet;
            scope.spawn(move || kubelet.call("ADD", uid, pod))
        });
        let started: Vec<_> = started.collect();
        let ended = started.into_iter().map(|call| call.join().unwrap());
        ended.collect::<Result<Vec<_>>>()
    })?;
    for ran in ran {
        ensure!(ran.is_added(), "{ran:?}: {}", agent.log());
    }
    ensure!(kubelet.node.pods().len() == 3);
    ensure!(agent.metric("redirect_agent_actions_total", &["attach"]) == 3);
    for (_, pod) in pods {
        ensure!(Scene::of(pod)?.who()? == "old");
    }
    Ok(())
}

fn the_api_server_is_asked_until_it_answers() -> Tested {
    let kubelet = Kubelet::new("asked")?;
    let _agent = kubelet.start_with_socket();
    let pod = Pod::of_kubelet("asked", "asked-1")?;
    kubelet.server.with(|cluster| {
        cluster.on_get(500);
        cluster.on_get(404);
    });
    kubelet.put("asked-1", &json!({}));
    let ran = kubelet.call("ADD", "asked-1", &pod)?;
    ensure!(ran.is_added(), "{ran:?}");
    let asked = || {
        kubelet
            .server
            .with(|cluster| cluster.count("/pods/asked-1"))
    };
    ensure!(asked() == 3, "{}", asked());
    // Another pod by now: this sandbox's will not come back.
    let mut another = crate::kube::pod("asked-1", &json!({}));
    another["metadata"]["uid"] = json!("asked-2");
    kubelet.server.with(|cluster| {
        cluster.delete("shop/asked-1");
        cluster.put(another);
    });
    let (code, why) = kubelet.call("ADD", "asked-1", &pod)?.error()?;
    ensure!(code == 100 && why.contains("its uid is asked-2"), "{why}");
    ensure!(asked() == 4, "{}", asked());
    Ok(())
}

fn what_is_no_question_is_refused() -> Tested {
    let kubelet = Kubelet::new("refused")?;
    let _agent = kubelet.start_with_socket();
    let socket = kubelet.node.socket();
    for (line, words) in [
        ("hello\n", "cannot be read"),
        ("{\"protocol\": 7}\n", "version 7 of the protocol"),
        (
            "{\"protocol\": 1, \"operation\": \"ADD\", \"container_id\": \"a\"}\n",
            "names no pod",
        ),
    ] {
        let mut stream = UnixStream::connect(&socket)?;
        stream.write_all(line.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        ensure!(
            answer.contains("failed") && answer.contains(words),
            "{answer}"
        );
    }
    let mut stream = UnixStream::connect(&socket)?;
    // Longer than a line may be; it hangs up before all is written.
    drop(stream.write_all(&vec![b'x'; 3 << 20]));
    ensure!(stream.read_to_end(&mut Vec::new()).unwrap_or(0) < 1000);
    let root = kubelet.call_about("STATUS", &Sandbox::gone("", ""), &json!({}))?;
    ensure!(root.is_quiet(), "{root:?}");
    Ok(())
}

fn the_socket_is_one_agents_and_roots() -> Tested {
    let kubelet = Kubelet::new("socket")?;
    let socket = kubelet.node.socket();
    let shown = socket.display().to_string();
    let ran = kubelet.node.run(&["run", "--cni-socket", &shown]);
    ensure!(ran.status == Some(1), "{ran:?}");
    ensure!(ran.stderr.contains("it needs --source kube"), "{ran:?}");
    let agent = kubelet.start_with_socket();
    let other = Kubelet::new("socket-other")?;
    let mut second = other.start_with(&["--cni-socket", &shown]);
    ensure!(second.status() == Some(1));
    ensure!(
        second.log().contains("another agent listens there"),
        "{}",
        second.log()
    );
    // Somebody has opened the way, and another user comes.
    let run = socket.parent().context("its folder")?;
    for (path, mode) in [(run, 0o755), (&*socket, 0o666)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    }
    let copy = run.join("redirect-cni");
    fs::copy(plugin()?, &copy)?;
    let mut as_user = Command::new("setpriv");
    as_user
        .args(["--reuid", "65534", "--clear-groups"])
        .arg(&copy)
        .env_clear()
        .env("CNI_COMMAND", "STATUS");
    let config =
        json!({"cniVersion": "1.1.0", "name": "pods", "type": "redirect-cni", "socket": socket});
    let (code, why) = feed(as_user, &config)?.error()?;
    ensure!(
        code == 50 && why.contains("only root may connect, and this is user 65534"),
        "{why}"
    );
    let root = kubelet.call_about("STATUS", &Sandbox::gone("", ""), &json!({}))?;
    ensure!(root.is_quiet(), "{root:?}");
    agent.end(Signal::KILL);
    ensure!(fs::symlink_metadata(&socket)?.file_type().is_socket());
    let agent = kubelet.start_with_socket();
    ensure!(fs::symlink_metadata(&socket)?.permissions().mode() & 0o777 == 0o600);
    ensure!(agent.end(Signal::TERM) == Some(0));
    ensure!(!socket.exists());
    Ok(())
}

fn the_installed_plugin_asks_the_agent() -> Tested {
    let kubelet = Kubelet::new("installed")?;
    let _agent = kubelet.start_with_socket();
    let pod = Pod::of_kubelet("installed", "installed-1")?;
    kubelet.put("installed-1", &json!({}));
    let [lists, plugins] = ["net.d", "bin"].map(|name| kubelet.node.folder().join(name));
    for folder in [&lists, &plugins] {
        fs::create_dir(folder)?;
    }
    let list = lists.join("10-pods.conflist");
    let before = json!({"cniVersion": "1.1.0", "name": "pods", "plugins": [{"type": "bridge"}]});
    fs::write(&list, before.to_string())?;
    let socket = kubelet.node.socket().display().to_string();
    let [lists, plugins] = [lists, plugins].map(|folder| folder.display().to_string());
    let install = |more: &[&str]| {
        let own = ["install-cni", "--conf-dir", &lists, "--bin-dir", &plugins];
        kubelet.node.run(&[&own, more].concat())
    };
    let ran = install(&["--socket", &socket]);
    ensure!(ran.status == Some(0), "{ran:?}");
    let again = install(&["--socket", &socket]);
    ensure!(again.stdout == "nothing to change\n", "{again:?}");
    let written: Value = serde_json::from_str(&fs::read_to_string(&list)?)?;
    let sandbox = Sandbox::of("installed-1", &pod);
    let ran = kubelet.call_about("ADD", &sandbox, &written["plugins"][1])?;
    ensure!(ran.is_added(), "{ran:?}");
    ensure!(kubelet.node.pods().len() == 1);
    let ran = install(&["--remove"]);
    ensure!(ran.status == Some(0), "{ran:?}");
    let restored: Value = serde_json::from_str(&fs::read_to_string(&list)?)?;
    ensure!(restored == before && fs::read_dir(&plugins)?.next().is_none());
    let ran = install(&["--socket", &socket, "--plugin", "/nowhere"]);
    ensure!(
        ran.status == Some(1) && ran.stderr.contains("read plugin \"/nowhere\""),
        "{ran:?}"
    );
    ensure!(serde_json::from_str::<Value>(&fs::read_to_string(&list)?)? == before);
    Ok(())
}
