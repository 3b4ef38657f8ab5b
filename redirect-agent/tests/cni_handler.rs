//! The CNI handler, when the API server or the control loop take too long.
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
    cni::{CniHandler, CniTimeouts, LoopRequest},
    outcome::{State, WorkloadStatus},
    source::kube::{Mesh, PodLookup},
    status::StatusStore,
};
use redirect_cni::{
    config::TIMEOUT,
    protocol::{Operation, PodRef, Response, SandboxRef},
};
use redirect_fake_apiserver::ApiServer;
use serde_json::json;
use tokio::{sync::mpsc, task};

const TIMEOUTS: CniTimeouts = CniTimeouts {
    find: Duration::from_millis(60),
    response: Duration::from_secs(20),
    retry_interval: Duration::from_millis(20),
    attach: Duration::from_millis(60),
};

/// The kubelet's uid of the static pod.
const HASH: &str = "0123456789abcdef0123456789abcdef";

/// An API server with one pod, and a handler that looks it up.
struct Scene {
    server: ApiServer,
    status: Arc<StatusStore>,
    handler: Arc<CniHandler>,
    requests: mpsc::Receiver<LoopRequest>,
}

impl Scene {
    fn new() -> Self {
        let server = ApiServer::start().unwrap();
        let address = server.address();
        Self::asking(server, address)
    }

    /// A handler that asks the server at this address instead.
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
        let status = Arc::new(StatusStore::default());
        let (sender, requests) = mpsc::channel(4);
        let handler = CniHandler::new(pods, Arc::clone(&status), sender, TIMEOUTS);
        Self {
            server,
            status,
            handler: Arc::new(handler),
            requests,
        }
    }

    async fn check(&self, uid: Option<&str>) -> (String, bool) {
        failure(
            self.handler
                .handle(Operation::Check(sandbox(uid, None)))
                .await,
        )
    }

    /// Starts an ADD, without a control loop that handles its request.
    fn add(&self) -> task::JoinHandle<Response> {
        let handler = Arc::clone(&self.handler);
        // The file is not the node's namespace, and is never entered here.
        task::spawn(async move {
            handler
                .handle(Operation::Add(sandbox(None, Some("/dev/null"))))
                .await
        })
    }
}

fn sandbox(uid: Option<&str>, netns: Option<&str>) -> SandboxRef {
    SandboxRef {
        container_id: "c".to_owned(),
        netns: netns.map(Into::into),
        pod: Some(PodRef {
            namespace: "shop".to_owned(),
            name: "cart-0".to_owned(),
            uid: uid.map(str::to_owned),
        }),
    }
}

/// Reason of a failure, and whether a retry may help.
fn failure(response: Response) -> (String, bool) {
    match response {
        Response::Failed { reason, retry } => (reason, retry),
        Response::Done | Response::Skipped { .. } => panic!("{response:?}"),
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
async fn add_fails_with_the_reason_for_the_delay() {
    let mut scene = Scene::new();
    let added = scene.add();
    let Some(LoopRequest::Add { sandbox, reply }) = scene.requests.recv().await else {
        panic!("no sandbox");
    };
    assert_eq!(sandbox.workload.name, "shop/cart-0");
    assert!(sandbox.workload.netns.is_some());
    scene
        .status
        .pass_succeeded(vec![waiting(sandbox.workload.id)]);
    let (why, retry) = failure(added.await.unwrap());
    drop(reply);
    assert!(retry && why.starts_with("pod shop/cart-0: "), "{why}");
    assert!(why.ends_with("there is no cgroup"), "{why}");
    // The sandbox is removed again.
    let next = scene.requests.recv().await;
    assert!(
        matches!(&next, Some(LoopRequest::Del(id)) if id == "c"),
        "{next:?}"
    );
}

#[tokio::test]
async fn requests_fail_when_the_control_loop_has_ended() {
    let mut scene = Scene::new();
    let added = scene.add();
    drop(scene.requests.recv().await);
    scene.requests.close();
    let (why, retry) = failure(added.await.unwrap());
    assert!(retry && why.contains("stopping"), "{why}");
    let (why, retry) = scene.check(None).await;
    assert!(retry && why.contains("stopping"), "{why}");
}

#[tokio::test]
async fn a_static_pod_is_found_by_either_of_its_uids() {
    let scene = Scene::new();
    for uid in ["mirror", HASH] {
        // The lookup has succeeded: only the control loop does not reply.
        let (why, retry) = scene.check(Some(uid)).await;
        assert!(
            retry && why.contains("no reconcile has finished yet"),
            "{why}"
        );
    }
    let (why, retry) = scene.check(Some("another")).await;
    assert!(
        !retry && why.contains(&format!("its uid is {HASH}")),
        "{why}"
    );
}

#[test]
fn the_plugin_waits_for_longer_than_the_handler() {
    let CniTimeouts { find, attach, .. } = CniTimeouts::default();
    assert!(find + attach < Duration::from_secs(TIMEOUT));
}

#[tokio::test]
async fn add_fails_in_time_when_the_api_server_is_silent() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let scene = Scene::asking(ApiServer::start().unwrap(), silent.local_addr().unwrap());
    let (why, retry) = failure(scene.add().await.unwrap());
    // The limit is not the 20 s of a single response.
    assert!(retry && why.ends_with("no answer within 0 s"), "{why}");
}

#[tokio::test]
async fn add_retries_until_the_time_is_up_when_the_api_server_is_down() {
    let scene = Scene::new();
    scene.server.down();
    let (why, retry) = failure(scene.add().await.unwrap());
    assert!(
        retry && why.contains("the API server is unavailable"),
        "{why}"
    );
    let status = scene.handler.handle(Operation::Status).await;
    let (why, _) = failure(status);
    assert!(why.contains("the first reconcile is not done yet"), "{why}");
    scene.status.pass_succeeded(Vec::new());
    assert_eq!(
        scene.handler.handle(Operation::Status).await,
        Response::Done
    );
}
