//! A cluster with pods, and sources of them.

use std::{path::PathBuf, time::Duration};

use kube::{Client, Config};
use redirect_agent::source::kube::{KubeSource, Mesh, Settings, Timeouts};
use redirect_fake_apiserver::{ApiServer, Cluster};
use redirect_user::config::RedirectConfig;
use serde_json::{Value, json};

use crate::contract::SourceFixture;

pub(super) const NODE: &str = "this";
pub(super) const PORTS: &str = "traffic.sidecar.istio.io/excludeOutboundPorts";

/// A pod of the mesh on this node, with an excluded port.
pub(super) fn pod(name: &str, port: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": "shop",
            "annotations": {"sidecar.istio.io/status": "{}", (PORTS): port},
        },
        "spec": {
            "nodeName": NODE,
            "containers": [{"name": "app"}, {"name": "istio-proxy", "args": ["proxy", "sidecar"]}],
        },
    })
}

pub(super) fn settings(mounts: Vec<PathBuf>) -> Settings {
    Settings {
        node: NODE.to_owned(),
        mesh: Mesh::default(),
        mounts,
        timeouts: Timeouts {
            response: Duration::from_secs(10),
            watch: Duration::from_mins(1),
            initial_backoff: Duration::from_millis(1),
            max_backoff: Duration::from_millis(20),
        },
    }
}

pub(super) fn client(server: &ApiServer) -> Client {
    let mut config = Config::new(format!("http://{}", server.address()).parse().unwrap());
    config.default_retry = false;
    Client::try_from(config).unwrap()
}

pub(super) fn source(server: &ApiServer, settings: Settings) -> KubeSource {
    KubeSource::new(client(server), settings)
}

impl SourceFixture for ApiServer {
    type Source = KubeSource;

    fn source(&self) -> KubeSource {
        source(self, settings(Vec::new()))
    }

    fn describe(&self, name: &str, port: u16) {
        self.with(|cluster| cluster.apply(pod(name, &port.to_string())));
    }

    fn describe_invalid(&self, name: &str) {
        self.with(|cluster| cluster.apply(pod(name, "http")));
    }

    fn remove(&self, name: &str) {
        self.with(|cluster| cluster.delete(&format!("shop/{name}")));
    }

    fn make_unavailable(&self) {
        self.down();
    }

    fn restore(&self) {
        self.up();
    }

    fn port(config: &RedirectConfig) -> u16 {
        config.exclude_ports.first().unwrap().first
    }
}

pub(super) fn put(cluster: &mut Cluster, names: &[&str]) {
    for name in names {
        cluster.apply(pod(name, "1"));
    }
}
