//! What the desk of the CNI plugin says when things take too long.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use kube::{Client, Config};
use redirect_agent::{
    cni::{Desk, Limits, Request},
    outcome::{State, WorkloadStatus},
    source::kube::{Mesh, PodLookup},
    status::Board,
};
use redirect_cni::{
    config::TIMEOUT,
    protocol::{Answer, Ask, PodRef, Sandbox},
};
use redirect_fake_apiserver::ApiServer;
use serde_json::json;
use tokio::{sync::mpsc, task};

const LIMITS: Limits = Limits {
    find: Duration::from_millis(60),
    answer: Duration::from_secs(20),
    pause: Duration::from_millis(20),
    attach: Duration::from_millis(60),
};

/// What the kubelet calls a pod of a file.
const HASH: &str = "0123456789abcdef0123456789abcdef";

/// An API server that knows one pod, and what it takes to ask about that.
struct Scene {
    server: ApiServer,
    board: Arc<Board>,
    desk: Arc<Desk>,
    requests: mpsc::Receiver<Request>,
}

impl Scene {
    fn new() -> Self {
        let server = ApiServer::start().unwrap();
        let address = server.address();
        Self::asking(server, address)
    }

    /// Whoever listens there is asked instead.
    fn asking(server: ApiServer, address: SocketAddr) -> Self {
        server.with(|cluster| {
            cluster.apply(json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {
                    "name": "cart-0", "namespace": "shop", "uid": "mirror",
                    "annotations": {
                        "sidecar.istio.io/status": "{}",
                        "kubernetes.io/config.hash": HASH, "kubernetes.io/config.mirror": HASH,
                    },
                },
                "spec": {"nodeName": "this", "containers": [{"name": "istio-proxy"}]},
            }));
        });
        let url = format!("http://{address}").parse().unwrap();
        let client = Client::try_from(Config::new(url)).unwrap();
        let pods = PodLookup::new(client, Mesh::default());
        let board = Arc::new(Board::default());
        let (ask, requests) = mpsc::channel(4);
        let desk = Desk::new(pods, Arc::clone(&board), ask, LIMITS);
        Self {
            server,
            board,
            desk: Arc::new(desk),
            requests,
        }
    }

    async fn check(&self, uid: Option<&str>) -> (String, bool) {
        failure(self.desk.answer(Ask::Check(sandbox(uid, None))).await)
    }

    /// Asks for a sandbox, while the loop is at rest.
    fn add(&self) -> task::JoinHandle<Answer> {
        let desk = Arc::clone(&self.desk);
        // Not the node's, and nobody enters it here.
        task::spawn(async move {
            desk.answer(Ask::Add(sandbox(None, Some("/dev/null"))))
                .await
        })
    }
}

fn sandbox(uid: Option<&str>, netns: Option<&str>) -> Sandbox {
    Sandbox {
        container_id: "c".to_owned(),
        netns: netns.map(Into::into),
        pod: Some(PodRef {
            namespace: "shop".to_owned(),
            name: "cart-0".to_owned(),
            uid: uid.map(str::to_owned),
        }),
    }
}

/// Why, and whether to ask again.
fn failure(answer: Answer) -> (String, bool) {
    match answer {
        Answer::Failed { reason, again } => (reason, again),
        Answer::Done | Answer::NotOurs { .. } => panic!("{answer:?}"),
    }
}

fn waiting(id: redirect_agent::workload::WorkloadId) -> WorkloadStatus {
    WorkloadStatus {
        id,
        name: "shop/cart-0".to_owned(),
        cgroup: None,
        state: State::Waiting,
        detail: Some("there is no cgroup".to_owned()),
    }
}

#[tokio::test]
async fn a_sandbox_that_is_never_attached_fails_with_what_is_waited_for() {
    let mut scene = Scene::new();
    let asked = scene.add();
    let Some(Request::Hold { sandbox, reply }) = scene.requests.recv().await else {
        panic!("no sandbox");
    };
    assert_eq!(sandbox.workload.name, "shop/cart-0");
    assert!(sandbox.workload.netns.is_some());
    scene.board.passed(vec![waiting(sandbox.workload.id)]);
    let (why, again) = failure(asked.await.unwrap());
    drop(reply);
    assert!(again && why.starts_with("pod shop/cart-0: "), "{why}");
    assert!(why.ends_with("there is no cgroup"), "{why}");
    // It is not held any longer.
    let next = scene.requests.recv().await;
    assert!(
        matches!(&next, Some(Request::Release(id)) if id == "c"),
        "{next:?}"
    );
}

#[tokio::test]
async fn a_loop_that_has_ended_is_said_to_stop() {
    let mut scene = Scene::new();
    let asked = scene.add();
    drop(scene.requests.recv().await);
    scene.requests.close();
    let (why, again) = failure(asked.await.unwrap());
    assert!(again && why.contains("stopping"), "{why}");
    let (why, again) = scene.check(None).await;
    assert!(again && why.contains("stopping"), "{why}");
}

#[tokio::test]
async fn a_static_pod_has_two_uids_and_no_more() {
    let scene = Scene::new();
    for uid in ["mirror", HASH] {
        // Nobody answers it, so it got as far as that.
        let (why, again) = scene.check(Some(uid)).await;
        assert!(again && why.contains("its turn has not come"), "{why}");
    }
    let (why, again) = scene.check(Some("another")).await;
    assert!(
        !again && why.contains(&format!("another one, {HASH}")),
        "{why}"
    );
}

#[test]
fn the_plugin_waits_for_longer_than_the_desk() {
    let Limits { find, attach, .. } = Limits::default();
    assert!(find + attach < Duration::from_secs(TIMEOUT));
}

#[tokio::test]
async fn a_server_that_says_nothing_is_left_when_the_time_is_up() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let scene = Scene::asking(ApiServer::start().unwrap(), silent.local_addr().unwrap());
    let (why, again) = failure(scene.add().await.unwrap());
    // Not after the 20 s that an answer may take.
    assert!(again && why.ends_with("no answer within 0 s"), "{why}");
}

#[tokio::test]
async fn a_server_that_is_down_is_asked_until_the_time_is_up() {
    let scene = Scene::new();
    scene.server.down();
    let (why, again) = failure(scene.add().await.unwrap());
    assert!(
        again && why.contains("the API server cannot be asked"),
        "{why}"
    );
    let status = scene.desk.answer(Ask::Status).await;
    let (why, _) = failure(status);
    assert!(why.contains("the first reconcile is not done yet"), "{why}");
    scene.board.passed(Vec::new());
    assert_eq!(scene.desk.answer(Ask::Status).await, Answer::Done);
}
