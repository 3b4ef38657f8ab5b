//! Pods that come, change and go.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use redirect_agent::source::{Source as _, SourceEvent};
use redirect_fake_apiserver::ApiServer;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{
    fixture::{pod, put, settings},
    listener::{Listener, uid},
};

#[tokio::test]
async fn nothing_is_removed_while_the_server_is_down() {
    let server = ApiServer::start().unwrap();
    let mut listener = Listener::in_sync(&server, &["one", "two"]).await;
    let before = listener.described();
    server.down();
    server.with(|cluster| {
        cluster.delete("shop/one");
        cluster.compact();
    });
    let unavailable = listener.next().await;
    assert!(
        matches!(unavailable, SourceEvent::Unavailable(_)),
        "{unavailable:?}"
    );
    // The source retries, and reports nothing else.
    let asking = timeout(Duration::from_millis(300), async {
        loop {
            let event = listener.source.next().await;
            assert!(matches!(event, SourceEvent::Unavailable(_)), "{event:?}");
        }
    });
    assert!(asking.await.is_err());
    assert_eq!(listener.described(), before);
    server.up();
    listener.until_in_sync().await;
}

#[tokio::test]
async fn a_pod_that_leaves_the_mesh_is_removed_and_can_join_again() {
    let server = ApiServer::start().unwrap();
    let mut listener = Listener::in_sync(&server, &["one", "two"]).await;
    let mut left = pod("one", "1");
    left["metadata"]["labels"] = json!({"sidecar.istio.io/inject": "false"});
    server.with(|cluster| cluster.apply(left));
    let removed = listener.next().await;
    assert!(matches!(removed, SourceEvent::Removed(_)), "{removed:?}");
    // The pod has the same uid, and may come back.
    listener.removed.clear();
    server.with(|cluster| put(cluster, &["one"]));
    listener.until_in_sync().await;
}

#[tokio::test]
async fn a_change_without_effect_on_redirection_is_no_event() {
    let server = ApiServer::start().unwrap();
    let mut listener = Listener::in_sync(&server, &["one"]).await;
    let mut same = pod("one", "1");
    same["status"] = json!({"phase": "Running"});
    server.with(|cluster| {
        cluster.apply(same);
        put(cluster, &["two"]);
    });
    let event = listener.next().await;
    assert!(
        matches!(&event, SourceEvent::Changed(workload) if workload.name == "shop/two"),
        "{event:?}"
    );
}

/// Directories that stand for cgroups, removed on drop.
struct Cgroups(PathBuf);

impl Cgroups {
    fn new(name: &str) -> Self {
        let name = format!("redirect-source-{}-{name}", std::process::id());
        Self(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name))
    }

    fn populate(&self, uid: &str, is_populated: bool) {
        let folder = self.0.join("kubepods/besteffort").join(format!("pod{uid}"));
        fs::create_dir_all(&folder).unwrap();
        let text = format!("populated {}\nfrozen 0\n", u8::from(is_populated));
        fs::write(folder.join("cgroup.events"), text).unwrap();
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap_or_default();
    }
}

#[tokio::test]
async fn a_force_deleted_pod_stays_described_until_it_has_ended() {
    let cgroups = Cgroups::new("leaving");
    for is_listed in [false, true] {
        let server = ApiServer::start().unwrap();
        server.with(|cluster| put(cluster, &["one", "two"]));
        let mut listener = Listener::of(&server, settings(vec![cgroups.0.clone()]));
        listener.next().await;
        let uid = server.with(|cluster| {
            let uid = &cluster.pods()["shop/one"]["metadata"]["uid"];
            uid.as_str().unwrap().to_owned()
        });
        cgroups.populate(&uid, true);
        server.with(|cluster| {
            cluster.delete("shop/one");
            if is_listed {
                cluster.compact();
            }
            put(cluster, &["three"]);
        });
        if is_listed {
            server.disconnect();
        }
        let three = |listener: &Listener<'_>| {
            let mut workloads = listener.desired.workloads();
            workloads.any(|workload| workload.name == "shop/three")
        };
        while !three(&listener) {
            listener.next().await;
        }
        assert!(listener.described().contains_key(&uid));
        cgroups.populate(&uid, false);
        assert!(matches!(listener.next().await, SourceEvent::Removed(id) if self::uid(&id) == uid));
        assert_eq!(listener.described(), listener.server_state());
    }
}

const HASH: &str = "0123456789abcdef0123456789abcdef";

/// A pod with annotations of a static pod.
fn mirror(hash: &str, mirror_of: Option<&str>) -> Value {
    let mut pod = pod("one", "1");
    let annotations = &mut pod["metadata"]["annotations"];
    annotations["kubernetes.io/config.hash"] = json!(hash);
    if let Some(mirror_of) = mirror_of {
        annotations["kubernetes.io/config.mirror"] = json!(mirror_of);
    }
    pod
}

/// The kubelet's uid names the cgroup.
#[tokio::test]
async fn a_pod_cannot_claim_another_pods_cgroup() {
    let victim = "5f6cbb21-9a0e-4f3a-8d0b-0a1b2c3d4e5f";
    for described in [
        mirror(HASH, None),
        mirror(HASH, Some("0")),
        mirror(victim, Some(victim)),
        mirror("../../system.slice", Some("../../system.slice")),
        mirror("", Some("")),
    ] {
        let server = ApiServer::start().unwrap();
        server.with(|cluster| cluster.apply(described));
        let mut listener = Listener::new(&server);
        listener.next().await;
        let workload = listener.desired.workloads().next().unwrap();
        let cgroup = workload.cgroup.as_ref().unwrap().to_string();
        assert_eq!(cgroup, format!("pod {}", uid(&workload.id)));
    }
}

#[tokio::test]
async fn a_static_pods_cgroup_is_named_by_the_kubelets_uid() {
    let server = ApiServer::start().unwrap();
    server.with(|cluster| cluster.apply(mirror(HASH, Some(HASH))));
    let mut listener = Listener::new(&server);
    listener.next().await;
    let workload = listener.desired.workloads().next().unwrap();
    assert_eq!(
        workload.cgroup.as_ref().unwrap().to_string(),
        format!("pod {HASH}")
    );
    let its_own = server.with(|cluster| cluster.pods()["shop/one"]["metadata"]["uid"].clone());
    assert_eq!(uid(&workload.id), its_own);
    assert_eq!(workload.name, "shop/one");
}
