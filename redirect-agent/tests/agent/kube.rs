//! Pods that an API server describes.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
};

use anyhow::{Result, bail, ensure};
use redirect_fake_apiserver::{ApiServer, Cluster};
use redirect_testkit::{Identity, Pod, WorkerCgroup, cases, in_netns};
use redirect_user::sys::cgroup::Cgroup;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{Cases, Needs, Tested, agent_process::Agent, node::Node, scene::Scene};

pub(crate) const CASES: &[Cases] = cases! {
    Needs::Pods => [
        a_pod_is_redirected_by_its_annotations_and_gets_events,
        settings_that_a_pod_does_not_fit_are_warned_of,
        skipped_pods_are_left_alone,
        a_pod_waits_until_it_has_a_network_namespace_of_its_own,
        a_process_that_the_runtime_has_just_started_moves_no_pod,
        a_pod_that_is_deleted_with_force_is_redirected_until_it_has_ended,
        a_missing_option_is_named,
    ],
};

/// A node, its API server, and agents that use it.
pub(crate) struct KubeNode {
    pub(crate) node: Node,
    pub(crate) server: ApiServer,
}

impl KubeNode {
    pub(crate) fn new(name: &str) -> Result<Self> {
        Self::of(Node::new(name), ApiServer::start()?)
    }

    /// A node that is a container in a network namespace.
    fn nested(name: &str, network: &str) -> Result<Self> {
        let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let server = ApiServer::on(in_netns(network, listen)??)?;
        Self::of(Node::new(name).in_network(network), server)
    }

    fn of(node: Node, server: ApiServer) -> Result<Self> {
        let kube = Self { node, server };
        fs::write(kube.kubeconfig(), kube.server.kubeconfig())?;
        Ok(kube)
    }

    fn kubeconfig(&self) -> String {
        self.node.file("kubeconfig").display().to_string()
    }

    pub(crate) fn start(&self) -> Agent {
        let agent = self.start_with(&[]);
        agent.until_ready();
        agent
    }

    /// Starts an agent with further arguments.
    pub(crate) fn start_with(&self, more: &[&str]) -> Agent {
        self.start_under(&[], more)
    }

    /// Starts an agent with these privileges (arguments of setpriv), and with further arguments.
    pub(crate) fn start_under(&self, privileges: &[String], more: &[&str]) -> Agent {
        let config = self.kubeconfig();
        let own = [
            "--source",
            "kube",
            "--node-name",
            "this",
            "--kubeconfig",
            &config,
        ];
        self.node.start_as(privileges, &[&own, more].concat())
    }

    /// Creates or changes a pod of the mesh, with annotations.
    pub(crate) fn put(&self, uid: &str, annotations: &Value) {
        self.server
            .with(|cluster| cluster.apply(pod(uid, annotations)));
    }

    /// Reasons and texts of the Events about a pod.
    fn events(&self, uid: &str) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        self.server.with(|cluster| {
            let events = cluster.events.iter();
            let about = events.filter(|event| event["regarding"]["uid"] == uid);
            about
                .map(|event| (text(&event["reason"]), text(&event["note"])))
                .collect()
        })
    }
}

pub(crate) fn pod(uid: &str, annotations: &Value) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": uid, "namespace": "shop", "uid": uid, "annotations": annotations,
        },
        "spec": {
            "nodeName": "this",
            "containers": [{"name": "app"}, {"name": "istio-proxy", "args": ["proxy", "sidecar"]}],
        },
    });
    pod["metadata"]["annotations"]["sidecar.istio.io/status"] = json!("{}");
    pod
}

pub(crate) const EXCLUDED: &str = "traffic.sidecar.istio.io/excludeOutboundIPRanges";

fn a_pod_is_redirected_by_its_annotations_and_gets_events() -> Tested {
    let kube = KubeNode::new("annotated")?;
    let shop = Scene::of(Pod::in_kubepods("shop", "annotated-1")?)?;
    kube.put("annotated-1", &json!({}));
    let agent = kube.start();
    ensure!(shop.reached()? == "old");
    agent.until("the Event", || kube.events("annotated-1").len() == 1);
    ensure!(kube.events("annotated-1")[0].0 == "TrafficRedirected");
    kube.put("annotated-1", &json!({(EXCLUDED): "36.152.44.0/24"}));
    agent.until("an edited annotation", || shop.reaches("world"));
    agent.until("its Event", || kube.events("annotated-1").len() == 2);
    // An invalid annotation changes nothing, and is reported.
    kube.put("annotated-1", &json!({(EXCLUDED): "36.152.44.0"}));
    agent.until("the Event", || kube.events("annotated-1").len() == 3);
    let (reason, note) = kube.events("annotated-1").remove(2);
    ensure!(reason == "TrafficRedirectionRefused");
    let says = "pod shop/annotated-1: annotation traffic.sidecar.istio.io/excludeOutboundIPRanges \"36.152.44.0\": ";
    ensure!(note.starts_with(says), "{note}");
    ensure!(shop.reached()? == "world");
    let refused = || {
        agent.metric(
            "redirect_agent_workload_error",
            &["source=\"kube\"", "workload=\"shop/annotated-1\""],
        )
    };
    ensure!(refused() == 1);
    // An unavailable server changes nothing either, nor does an agent that is killed in the meantime.
    kube.server.down();
    agent.until("trouble", || {
        agent.metric("redirect_agent_source_up", &["source=\"kube\""]) == 0
    });
    ensure!(shop.reached()? == "world");
    agent.end(Signal::KILL);
    ensure!(shop.reached()? == "world");
    kube.server.up();
    kube.put("annotated-1", &json!({}));
    let agent = kube.start();
    agent.until("the next annotations", || shop.reaches("old"));
    Ok(())
}

fn settings_that_a_pod_does_not_fit_are_warned_of() -> Tested {
    let kube = KubeNode::new("warned")?;
    let mut shop = Scene::of(Pod::in_kubepods("warned", "warned-1")?)?;
    shop.end_proxy();
    kube.put(
        "warned-1",
        &json!({("traffic.sidecar.istio.io/excludeInterfaces"): "wg0"}),
    );
    let agent = kube.start_with(&["--proxy-grace", "1"]);
    agent.until("the Events", || kube.events("warned-1").len() == 3);
    ensure!(shop.reached()? == "refused");
    let [redirected, interface, listener] = &kube.events("warned-1")[..] else {
        bail!("{:?}", kube.events("warned-1"));
    };
    ensure!(redirected.0 == "TrafficRedirected");
    ensure!(
        redirected.1.contains("IPv6 is left alone"),
        "{redirected:?}"
    );
    for (warning, says) in [
        (interface, "the network namespace has no such interface"),
        (listener, "no socket listens at TCP port 15001 (-p)"),
    ] {
        ensure!(
            warning.0 == "TrafficRedirectionWarning" && warning.1.contains(says),
            "{warning:?}"
        );
        ensure!(agent.log().matches(says).count() == 1, "{}", agent.log());
    }
    // A pod whose proxy listens is warned of nothing.
    let cart = Scene::of(Pod::in_kubepods("unwarned", "unwarned-1")?)?;
    kube.put(
        "unwarned-1",
        &json!({("traffic.sidecar.istio.io/includeInboundPorts"): ""}),
    );
    agent.until("the other pod", || cart.reaches("old"));
    // It was checked before the pod that is attached after it.
    let mut late = Scene::of(Pod::in_kubepods("warned-late", "warned-2")?)?;
    late.end_proxy();
    kube.put("warned-2", &json!({}));
    agent.until("the Event", || kube.events("warned-2").len() == 2);
    ensure!(kube.events("unwarned-1").len() == 1, "{}", agent.log());
    Ok(())
}

fn skipped_pods_are_left_alone() -> Tested {
    let kube = KubeNode::new("others")?;
    let host = Scene::of(Pod::in_kubepods("host", "others-host")?)?;
    let managed = Scene::of(Pod::in_kubepods("managed", "others-managed")?)?;
    let mut uses_host = pod("others-host", &json!({}));
    uses_host["spec"]["hostNetwork"] = json!(true);
    kube.server.with(|cluster| cluster.apply(uses_host));
    kube.put("others-managed", &json!({}));
    let _agent = kube.start();
    ensure!((host.reached()?, managed.reached()?) == ("world".into(), "old".into()));
    ensure!(kube.node.pods().len() == 1);
    ensure!(kube.events("others-host").is_empty());
    Ok(())
}

fn a_pod_waits_until_it_has_a_network_namespace_of_its_own() -> Tested {
    let kube = KubeNode::new("waiting")?;
    let pod = Pod::in_kubepods("wait", "waiting-1")?;
    kube.put("waiting-1", &json!({}));
    let agent = kube.start();
    let waiting = || {
        agent.metric(
            "redirect_agent_workloads",
            &["source=\"kube\"", "state=\"waiting\""],
        )
    };
    ensure!(waiting() == 1 && kube.node.pods().is_empty());
    let scene = Scene::of(pod)?;
    agent.until("attached", || scene.reaches("old"));
    let id = Cgroup::open(scene.pod.cgroup().path())?.id();
    let attached = kube.node.pods();
    ensure!(attached.len() == 1 && attached[0].id == id);
    Ok(())
}

/// The process is in the pod's cgroup, and in the node's network namespace until it enters the pod's.
fn a_process_that_the_runtime_has_just_started_moves_no_pod() -> Tested {
    let pod = Pod::in_kubepods("nested", "nested-1")?;
    let world = Scene::outside(&pod)?;
    let kube = KubeNode::nested("nested", pod.world().namespace())?;
    kube.put("nested-1", &json!({}));
    let scene = Scene::inside(pod, world)?;
    let agent = kube.start();
    ensure!(scene.reached()? == "old");
    agent.end(Signal::KILL);
    let attached = kube.node.pods();
    ensure!(attached.len() == 1);

    // The pod has no other process when the next agent starts.
    let (pod, world) = scene.emptied();
    let place = WorkerCgroup::Folder(pod.cgroup().app());
    let started = pod.world().worker(&Identity::root().cgroup(place))?;
    let agent = kube.start();
    ensure!(kube.node.pods() == attached, "{}", agent.log());
    ensure!(agent.metric("redirect_agent_actions_total", &[]) == 0);
    drop(started);
    let scene = Scene::inside(pod, world)?;
    ensure!(scene.reached()? == "old");
    Ok(())
}

fn a_pod_that_is_deleted_with_force_is_redirected_until_it_has_ended() -> Tested {
    let kube = KubeNode::new("forced")?;
    let one = Scene::of(Pod::in_kubepods("one", "forced-1")?)?;
    let two = Scene::of(Pod::in_kubepods("two", "forced-2")?)?;
    kube.put("forced-1", &json!({}));
    let agent = kube.start();
    ensure!(one.reached()? == "old");
    kube.server.with(|cluster: &mut Cluster| {
        cluster.delete("shop/forced-1");
        cluster.apply(pod("forced-2", &json!({})));
    });
    agent.until("the other one", || two.reaches("old"));
    ensure!(one.reached()? == "old");
    drop(one);
    agent.until("detached", || kube.node.pods().len() == 1);
    agent.until("forgotten", || {
        agent.metric("redirect_agent_workloads", &["source=\"kube\""]) == 1
    });
    Ok(())
}

fn a_missing_option_is_named() -> Tested {
    let kube = KubeNode::new("lacks")?;
    let config = kube.kubeconfig();
    let mesh = kube.node.file("mesh").display().to_string();
    fs::write(&mesh, "args: [-x, 10.0.0.0/33]\n")?;
    let node = ["--node-name", "this"];
    for (args, words) in [
        (vec!["--kubeconfig", &config], "--node-name, or NODE_NAME"),
        (node.to_vec(), "--kubeconfig names another"),
        (
            [&node[..], &["--kubeconfig", "/nowhere"]].concat(),
            "read kubeconfig \"/nowhere\"",
        ),
        (
            [&node[..], &["--mesh", &mesh]].concat(),
            "args: parse -x/--istio-service-exclude-cidr \"10.0.0.0/33\"",
        ),
    ] {
        let ran = kube
            .node
            .run(&[&["plan", "--source", "kube"], args.as_slice()].concat());
        ensure!(ran.status == Some(1), "{ran:?}");
        ensure!(ran.stderr.contains(words), "{words}: {}", ran.stderr);
        ensure!(ran.stderr.lines().count() == 1, "{}", ran.stderr);
    }
    kube.put("lacks-1", &json!({}));
    let ran = kube.node.run(&[
        "plan",
        "--source",
        "kube",
        "--node-name",
        "this",
        "--kubeconfig",
        &config,
    ]);
    ensure!(ran.status == Some(0), "{ran:?}");
    ensure!(ran.stdout.contains("kube/shop/lacks-1/lacks-1"), "{ran:?}");
    Ok(())
}
