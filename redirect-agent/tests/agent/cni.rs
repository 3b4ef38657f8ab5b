//! The real CNI plugin and the real agent: pods are redirected before they have a process.
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
use redirect_testkit::{Dial, Identity, Pod, Serve, cases};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    Cases, Needs, Tested,
    kube::{EXCLUDED, KubeNode, pod},
    runtime::{Sandbox, feed, plugin},
    scene::{OLD, Scene, reached},
};

pub(crate) const CASES: &[Cases] = cases! {
    Needs::Pods => [
        a_pod_is_redirected_before_its_first_process,
        an_invalid_annotation_fails_the_start_and_attaches_nothing,
        a_pod_connects_directly_until_its_proxy_listens_if_configured,
        a_skipped_pod_starts_untouched,
        a_sandbox_stays_attached_while_the_source_does_not_know_its_pod,
        a_new_sandbox_of_a_pod_replaces_the_old_one,
        the_sidecars_user_is_translated_from_the_pods_user_namespace,
        pods_are_added_concurrently,
        a_lookup_is_retried_until_the_api_server_answers,
        an_invalid_request_is_refused,
        the_socket_belongs_to_one_agent_and_to_root,
        the_installed_plugin_asks_the_agent,
    ],
};

fn a_pod_is_redirected_before_its_first_process() -> Tested {
    let kube = KubeNode::new("first")?;
    let agent = kube.start_with_socket();
    let pod = Pod::in_kubepods("first", "first-1")?;
    let world = Scene::outside(&pod)?;
    kube.put("first-1", &json!({}));
    agent.until("it is known, and waits", || {
        agent.metric("redirect_agent_workloads", &["state=\"waiting\""]) == 1
    });
    ensure!(kube.node.pods().is_empty());
    let ran = kube.call("ADD", "first-1", &pod)?;
    ensure!(ran.is_added(), "{ran:?}: {}", agent.log());
    let attached = kube.node.pods();
    ensure!(attached.len() == 1);
    ensure!(kube.call("CHECK", "first-1", &pod)?.is_quiet());
    // From here on only the kernel redirects.
    agent.end(Signal::KILL);
    let app = pod.worker(&Identity::app())?;
    ensure!(reached(&app)? == "refused", "the proxy is not there yet");
    let scene = Scene::inside(pod, world)?;
    ensure!(scene.reached()? == "old" && reached(&app)? == "old");
    // The next agent does not know the sandbox, and touches nothing.
    let agent = kube.start_with_socket();
    ensure!(agent.metric("redirect_agent_actions_total", &[]) == 0);
    ensure!(kube.node.pods() == attached);
    let counted = || {
        let labels = ["workload=\"shop/first-1\"", "verdict=\"out\""];
        agent.metric("redirect_connections_total", &labels)
    };
    ensure!(counted() == 3, "{}", counted());
    ensure!(kube.call("CHECK", "first-1", &scene.pod)?.is_quiet());
    // The runtime sends DEL twice, the second time without a namespace.
    ensure!(kube.call("DEL", "first-1", &scene.pod)?.is_quiet());
    let ran = kube.call_about(
        "DEL",
        &Sandbox::gone("first-1", scene.pod.name()),
        &json!({}),
    )?;
    ensure!(ran.is_quiet(), "{ran:?}");
    kube.server.with(|cluster| cluster.delete("shop/first-1"));
    drop(scene);
    drop(app);
    agent.until("detached", || kube.node.pods().is_empty());
    let (code, why) = kube
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

fn a_pod_connects_directly_until_its_proxy_listens_if_configured() -> Tested {
    let kube = KubeNode::new("direct")?;
    let agent = kube.start_with_socket();
    let pod = Pod::in_kubepods("direct", "direct-1")?;
    let world = Scene::outside(&pod)?;
    let annotation = "redirect-ebpf/before-proxy";
    kube.put("direct-1", &json!({annotation: "later"}));
    let (_, why) = kube.call("ADD", "direct-1", &pod)?.error()?;
    ensure!(
        why.contains(annotation) && why.contains("write held or direct"),
        "{why}"
    );
    kube.put("direct-1", &json!({annotation: "direct"}));
    agent.until("the source has described it", || {
        agent.metric("redirect_agent_workloads", &["state=\"waiting\""]) == 1
    });
    let added = kube.call("ADD", "direct-1", &pod)?;
    ensure!(added.is_added(), "{added:?}");
    let checked = kube.call("CHECK", "direct-1", &pod)?;
    ensure!(checked.is_quiet(), "{checked:?}");
    let app = pod.worker(&Identity::app())?;
    ensure!(reached(&app)? == "world", "an init container");
    // Istio's own init container, `istio-validation`, comes first. It has the proxy's user, listens at both
    // ports of the proxy for loopback alone, and expects to reach itself.
    let validation = pod.worker(&Identity::proxy())?;
    for port in [OLD, 15006] {
        let local = SocketAddr::from(([127, 0, 0, 1], port));
        validation.serve(&Serve::new(&format!("validation:{port}"), local))?;
    }
    let probe = "127.0.0.6:15002".parse()?;
    let dialled = validation.dial(&Dial::to(probe).from("127.0.0.1:0".parse()?))?;
    let banner = dialled.banner().context("an answer")?;
    ensure!(
        banner.server == "validation:15006" && banner.orig_dst == Some(probe),
        "{banner:?}"
    );
    // Its sockets do not count as the proxy, however many passes are made.
    let passes = || agent.metric("redirect_agent_reconcile_duration_seconds_count", &[]);
    let before = passes();
    agent.until("three passes", || passes() >= before + 3);
    ensure!(reached(&app)? == "world", "{}", agent.log());
    drop(validation);
    ensure!(reached(&app)? == "world", "the next init container");

    let mut scene = Scene::inside(pod, world)?;
    agent.until("redirected", || scene.reaches("old"));
    // From now on the pod has its whole policy.
    scene.end_proxy();
    ensure!(scene.reached()? == "refused");
    agent.end(Signal::KILL);
    let agent = kube.start_with_socket();
    ensure!(agent.metric("redirect_agent_workloads", &["state=\"attached\""]) == 1);
    ensure!(scene.reached()? == "refused");
    Ok(())
}

fn an_invalid_annotation_fails_the_start_and_attaches_nothing() -> Tested {
    let kube = KubeNode::new("wrong")?;
    let agent = kube.start_with_socket();
    let pod = Pod::in_kubepods("wrong", "wrong-1")?;
    kube.put("wrong-1", &json!({(EXCLUDED): "36.152.44.0"}));
    for command in ["ADD", "CHECK"] {
        let (code, why) = kube.call(command, "wrong-1", &pod)?.error()?;
        let says = why.contains("pod shop/wrong-1")
            && why.contains(EXCLUDED)
            && why.contains("36.152.44.0");
        ensure!(code == 100 && says, "{command}: {code} {why}");
    }
    ensure!(kube.node.pods().is_empty());
    let scene = Scene::of(pod)?;
    ensure!(scene.reached()? == "world");
    // The runtime retries after the correction, and the pod starts.
    kube.put("wrong-1", &json!({}));
    agent.until("the watch has the pod", || scene.reaches("old"));
    ensure!(kube.call("ADD", "wrong-1", &scene.pod)?.is_added());
    Ok(())
}

fn a_skipped_pod_starts_untouched() -> Tested {
    let kube = KubeNode::new("skipped")?;
    let agent = kube.start_with_socket();
    let host = Scene::of(Pod::in_kubepods("host", "skipped-host")?)?;
    let plain = Scene::of(Pod::in_kubepods("plain", "skipped-plain")?)?;
    kube.server.with(|cluster| {
        let mut of_host = pod("skipped-host", &json!({}));
        of_host["spec"]["hostNetwork"] = json!(true);
        cluster.apply(of_host);
        let mut without = pod("skipped-plain", &json!({}));
        without["metadata"]["annotations"] = json!({});
        cluster.apply(without);
    });
    for (uid, scene) in [("skipped-host", &host), ("skipped-plain", &plain)] {
        let ran = kube.call("ADD", uid, &scene.pod)?;
        ensure!(ran.is_added(), "{ran:?}: {}", agent.log());
        ensure!(kube.call("CHECK", uid, &scene.pod)?.is_quiet());
        ensure!(scene.reached()? == "world");
    }
    ensure!(kube.node.pods().is_empty());
    // A sandbox in the node's own namespace is refused.
    kube.put("skipped-managed", &json!({}));
    let in_node = Sandbox::new("skipped-managed", "s", "/proc/self/ns/net");
    let (code, why) = kube.call_about("ADD", &in_node, &json!({}))?.error()?;
    ensure!(code == 100 && why.contains("the node's own"), "{why}");
    Ok(())
}

fn a_sandbox_stays_attached_while_the_source_does_not_know_its_pod() -> Tested {
    let kube = KubeNode::new("ahead")?;
    let agent = kube.start_with_socket();
    let pods = ["ahead-1", "ahead-2"].map(|uid| Ok((uid, Pod::in_kubepods("ahead", uid)?)));
    let pods: Vec<_> = pods.into_iter().collect::<Result<_>>()?;
    kube.server.with(|cluster| {
        for (uid, _) in &pods {
            // The watch does not show the pod yet: it is on another node.
            let mut elsewhere = pod(uid, &json!({}));
            elsewhere["spec"]["nodeName"] = json!("soon");
            cluster.apply(elsewhere);
        }
    });
    for (uid, made) in &pods {
        let ran = kube.call("ADD", uid, made)?;
        ensure!(ran.is_added(), "{ran:?}: {}", agent.log());
    }
    ensure!(kube.node.pods().len() == 2);
    // A list without the pods detaches none.
    kube.server.with(Cluster::compact);
    kube.server.disconnect();
    kube.put("ahead-other", &json!({}));
    agent.until("the list", || {
        agent.metric("redirect_agent_workloads", &[]) == 3
    });
    ensure!(kube.node.pods().len() == 2);
    let (_, second) = &pods[1];
    let valid =
        json!({"cni.dev/valid-attachments": [{"containerID": second.name(), "ifname": "eth0"}]});
    let ran = kube.call_about("GC", &Sandbox::gone("", ""), &valid)?;
    ensure!(ran.is_quiet(), "{ran:?}");
    agent.until("the first one is detached", || kube.node.pods().len() == 1);
    ensure!(kube.call("DEL", "ahead-2", second)?.is_quiet());
    agent.until("the second one", || kube.node.pods().is_empty());
    let ran = kube.call_about("STATUS", &Sandbox::gone("", ""), &json!({}))?;
    ensure!(ran.is_quiet(), "{ran:?}");
    Ok(())
}

fn a_new_sandbox_of_a_pod_replaces_the_old_one() -> Tested {
    let kube = KubeNode::new("again-sandbox")?;
    let agent = kube.start_with_socket();
    let pod = Pod::in_kubepods("again", "again-1")?;
    let other = Pod::new("again-old")?;
    kube.put("again-1", &json!({}));
    let add = |sandbox: &str, of: &Pod| {
        kube.call_about(
            "ADD",
            &Sandbox::new("again-1", sandbox, of.namespace()),
            &json!({}),
        )
    };
    ensure!(add("old", &other)?.is_added(), "{}", agent.log());
    let old = kube.node.pods();
    ensure!(add("new", &pod)?.is_added(), "{}", agent.log());
    let new = kube.node.pods();
    ensure!(new.len() == 1 && new[0].row.netns != old[0].row.netns);
    // The DEL of the old sandbox comes late.
    let ran = kube.call_about("DEL", &Sandbox::gone("again-1", "old"), &json!({}))?;
    ensure!(ran.is_quiet(), "{ran:?}");
    drop(other);
    let ran = kube.call("CHECK", "again-1", &pod)?;
    ensure!(ran.is_quiet(), "{ran:?}");
    ensure!(kube.node.pods() == new);
    let moved = agent.metric("redirect_agent_actions_total", &["move", "ok"]);
    ensure!(moved == 1, "{}", agent.log());
    let scene = Scene::of(pod)?;
    ensure!(scene.reached()? == "old");
    // Inbound redirection has moved as well.
    let proxy = scene.pod.worker(&Identity::proxy())?;
    proxy.serve(&Serve::new("in", "0.0.0.0:15006".parse()?))?;
    let service = "10.77.0.2:8080".parse()?;
    scene.app.serve(&Serve::new("app", service))?;
    let outside = scene.pod.world().worker(&Identity::root())?;
    let dialled = outside.dial(&Dial::to(service))?;
    let banner = dialled.banner().context("an answer")?;
    ensure!(
        banner.server == "in" && banner.orig_dst == Some(service),
        "{banner:?}"
    );
    Ok(())
}

/// The user has another id outside.
fn the_sidecars_user_is_translated_from_the_pods_user_namespace() -> Tested {
    let kube = KubeNode::new("users")?;
    let agent = kube.start_with_socket();
    let pod = Pod::in_kubepods_with_user_namespace("users", "users-1")?;
    kube.put("users-1", &json!({}));
    let ran = kube.call("ADD", "users-1", &pod)?;
    ensure!(ran.is_added(), "{ran:?}: {}", agent.log());
    let scene = Scene::of(pod)?;
    let proxy = scene.pod.worker(&Identity::proxy())?;
    ensure!((scene.reached()?, reached(&proxy)?) == ("old".into(), "world".into()));
    kube.put("users-1", &json!({(EXCLUDED): "36.152.44.0/24"}));
    agent.until("an edited annotation", || scene.reaches("world"));
    kube.put("users-1", &json!({}));
    agent.until("the edit is undone", || scene.reaches("old"));
    ensure!(reached(&proxy)? == "world");
    ensure!(kube.call("CHECK", "users-1", &scene.pod)?.is_quiet());
    Ok(())
}

fn pods_are_added_concurrently() -> Tested {
    let kube = KubeNode::new("many")?;
    let agent = kube.start_with_socket();
    let uids = ["many-1", "many-2", "many-3"];
    let pods = uids.map(|uid| Ok((uid, Pod::in_kubepods("many", uid)?)));
    let pods: Vec<_> = pods.into_iter().collect::<Result<_>>()?;
    for uid in uids {
        kube.put(uid, &json!({}));
    }
    // Each ADD is sent twice, as after a timeout of the runtime.
    let calls = pods.iter().chain(&pods);
    let ran = thread::scope(|scope| {
        let started = calls.map(|(uid, pod)| {
            let kube = &kube;
            scope.spawn(move || kube.call("ADD", uid, pod))
        });
        let started: Vec<_> = started.collect();
        let ended = started.into_iter().map(|call| call.join().unwrap());
        ended.collect::<Result<Vec<_>>>()
    })?;
    for ran in ran {
        ensure!(ran.is_added(), "{ran:?}: {}", agent.log());
    }
    ensure!(kube.node.pods().len() == 3);
    ensure!(agent.metric("redirect_agent_actions_total", &["attach"]) == 3);
    for (_, pod) in pods {
        ensure!(Scene::of(pod)?.reached()? == "old");
    }
    Ok(())
}

fn a_lookup_is_retried_until_the_api_server_answers() -> Tested {
    let kube = KubeNode::new("asked")?;
    let _agent = kube.start_with_socket();
    let pod = Pod::in_kubepods("asked", "asked-1")?;
    kube.server.with(|cluster| {
        cluster.answer_next_get(500);
        cluster.answer_next_get(404);
    });
    kube.put("asked-1", &json!({}));
    let ran = kube.call("ADD", "asked-1", &pod)?;
    ensure!(ran.is_added(), "{ran:?}");
    let asked = || {
        kube.server
            .with(|cluster| cluster.count_requests("/pods/asked-1"))
    };
    ensure!(asked() == 3, "{}", asked());
    // The name belongs to another pod by now, and the pod of this sandbox will not come back.
    let mut another = crate::kube::pod("asked-1", &json!({}));
    another["metadata"]["uid"] = json!("asked-2");
    kube.server.with(|cluster| {
        cluster.delete("shop/asked-1");
        cluster.apply(another);
    });
    let (code, why) = kube.call("ADD", "asked-1", &pod)?.error()?;
    ensure!(code == 100 && why.contains("its uid is asked-2"), "{why}");
    ensure!(asked() == 4, "{}", asked());
    Ok(())
}

fn an_invalid_request_is_refused() -> Tested {
    let kube = KubeNode::new("refused")?;
    let _agent = kube.start_with_socket();
    let socket = kube.node.socket();
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
    // The line is longer than allowed; the agent closes the connection before all is written.
    drop(stream.write_all(&vec![b'x'; 3 << 20]));
    ensure!(stream.read_to_end(&mut Vec::new()).unwrap_or(0) < 1000);
    let root = kube.call_about("STATUS", &Sandbox::gone("", ""), &json!({}))?;
    ensure!(root.is_quiet(), "{root:?}");
    Ok(())
}

fn the_socket_belongs_to_one_agent_and_to_root() -> Tested {
    let kube = KubeNode::new("socket")?;
    let socket = kube.node.socket();
    let shown = socket.display().to_string();
    let ran = kube.node.run(&["run", "--cni-socket", &shown]);
    ensure!(ran.status == Some(1), "{ran:?}");
    ensure!(ran.stderr.contains("it needs --source kube"), "{ran:?}");
    let agent = kube.start_with_socket();
    let other = KubeNode::new("socket-other")?;
    let mut second = other.start_with(&["--cni-socket", &shown]);
    ensure!(second.status() == Some(1));
    ensure!(
        second.log().contains("another agent listens there"),
        "{}",
        second.log()
    );
    // The permissions were opened, and another user connects.
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
    let root = kube.call_about("STATUS", &Sandbox::gone("", ""), &json!({}))?;
    ensure!(root.is_quiet(), "{root:?}");
    agent.end(Signal::KILL);
    ensure!(fs::symlink_metadata(&socket)?.file_type().is_socket());
    let agent = kube.start_with_socket();
    ensure!(fs::symlink_metadata(&socket)?.permissions().mode() & 0o777 == 0o600);
    ensure!(agent.end(Signal::TERM) == Some(0));
    ensure!(!socket.exists());
    Ok(())
}

fn the_installed_plugin_asks_the_agent() -> Tested {
    let kube = KubeNode::new("installed")?;
    let _agent = kube.start_with_socket();
    let pod = Pod::in_kubepods("installed", "installed-1")?;
    kube.put("installed-1", &json!({}));
    let [lists, plugins] = ["net.d", "bin"].map(|name| kube.node.folder().join(name));
    for folder in [&lists, &plugins] {
        fs::create_dir(folder)?;
    }
    let list = lists.join("10-pods.conflist");
    let before = json!({"cniVersion": "1.1.0", "name": "pods", "plugins": [{"type": "bridge"}]});
    fs::write(&list, before.to_string())?;
    let socket = kube.node.socket().display().to_string();
    let [lists, plugins] = [lists, plugins].map(|folder| folder.display().to_string());
    let install = |more: &[&str]| {
        let own = ["install-cni", "--conf-dir", &lists, "--bin-dir", &plugins];
        kube.node.run(&[&own, more].concat())
    };
    let ran = install(&["--socket", &socket]);
    ensure!(ran.status == Some(0), "{ran:?}");
    let again = install(&["--socket", &socket]);
    ensure!(again.stdout == "nothing to change\n", "{again:?}");
    let written: Value = serde_json::from_str(&fs::read_to_string(&list)?)?;
    let sandbox = Sandbox::of("installed-1", &pod);
    let ran = kube.call_about("ADD", &sandbox, &written["plugins"][1])?;
    ensure!(ran.is_added(), "{ran:?}");
    ensure!(kube.node.pods().len() == 1);
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
