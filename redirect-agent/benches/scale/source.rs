//! The cost of a node's source: its list, its watch, and many lists after an outage.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use redirect_agent::source::{
    KubeSource, Source as _, SourceEvent,
    kube::{self, Mesh, Settings, Timeouts},
};
use redirect_fake_apiserver::ApiServer;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use tokio::{
    runtime::Runtime,
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    task::{LocalSet, spawn_local},
    time::{interval, sleep_until, timeout},
};

use crate::{
    counting_proxy::{CountingProxy, Kubeconfig},
    pod,
};

/// Longer than any wait of this benchmark.
const LONG: Duration = Duration::from_mins(5);

/// Processor time of this thread so far: the server has other threads.
fn spent() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(now.tv_sec).unwrap_or_default(),
        u32::try_from(now.tv_nsec).unwrap_or_default(),
    )
}

/// The figures of a source.
pub(crate) struct Figures {
    /// Bytes of a list, and processor time to read it.
    pub(crate) list: (u64, Duration),
    /// Bytes of a changed pod, and processor time to read it.
    pub(crate) change: (u64, Duration),
}

async fn open(kubeconfig: &Kubeconfig, node: &str) -> Result<KubeSource> {
    let settings = Settings {
        node: node.to_owned(),
        mesh: Mesh::default(),
        mounts: Vec::new(),
        timeouts: Timeouts::default(),
    };
    let client = kube::client(Some(&kubeconfig.file)).await?;
    Ok(KubeSource::new(client, settings))
}

/// Measures a source with this many pods and changes.
pub(crate) async fn one(pods: u32, changes: u32) -> Result<Figures> {
    let server = ApiServer::start().context("start an API server")?;
    let counting_proxy = CountingProxy::to(server.address()).context("listen")?;
    server.with(|cluster| (0..pods).for_each(|number| cluster.apply(pod::of("node", number))));
    let mut source = open(&counting_proxy.kubeconfig(&server)?, "node").await?;
    let before = spent();
    let event = source.next().await;
    let list = (counting_proxy.down(), spent().saturating_sub(before));
    ensure!(
        matches!(&event, SourceEvent::Snapshot(all) if all.len() == usize::try_from(pods)?),
        "{event:?}"
    );
    // After the first change the watch is open.
    let changed = |number: u32| -> Value {
        let mut pod = pod::of("node", 0);
        let range = json!(format!("10.{}.{}.0/24", number / 256 % 256, number % 256));
        pod["metadata"]["annotations"][pod::EXCLUDED] = range;
        pod
    };
    server.with(|cluster| cluster.apply(changed(0)));
    source.next().await;
    let (bytes, before) = (counting_proxy.down(), spent());
    for number in 1..=changes {
        server.with(|cluster| cluster.apply(changed(number)));
        let event = source.next().await;
        ensure!(matches!(event, SourceEvent::Changed(_)), "{event:?}");
    }
    let change = (
        (counting_proxy.down() - bytes) / u64::from(changes),
        spent().saturating_sub(before) / changes,
    );
    Ok(Figures { list, change })
}

/// The load on an API server after an outage.
pub(crate) struct Storm {
    /// Connections in the fullest second, per node.
    pub(crate) peak: f64,
    /// Time until all nodes were served again.
    pub(crate) over: Duration,
    /// Lists per node.
    pub(crate) lists: f64,
}

/// Measures an outage of this length, with this many nodes.
pub(crate) fn storm(runtime: &Runtime, nodes: u32, outage: Duration) -> Result<Storm> {
    let server = ApiServer::start().context("start an API server")?;
    let counting_proxy = CountingProxy::to(server.address()).context("listen")?;
    LocalSet::new().block_on(runtime, async {
        let mut states = SourceStates::of(&server, &counting_proxy, nodes).await?;
        states.until(true).await?;
        timeout(LONG, all_watch(&server, nodes))
            .await
            .context("not every source watches")?;
        server.down();
        states.until(false).await?;
        sleep_until((Instant::now() + outage).into()).await;
        let before = lists(&server);
        let back = Instant::now();
        server.up();
        states.until(true).await?;
        let over = back.elapsed();
        let listed = u32::try_from(lists(&server) - before)?;
        Ok(Storm {
            peak: f64::from(fullest(&counting_proxy, back)) / f64::from(nodes),
            over,
            lists: f64::from(listed) / f64::from(nodes),
        })
    })
}

/// Waits until every node has asked for a watch.
async fn all_watch(server: &ApiServer, nodes: u32) {
    let nodes = usize::try_from(nodes).unwrap_or(usize::MAX);
    let mut looks = interval(Duration::from_millis(10));
    while server.with(|cluster| cluster.count_requests("watch=true")) < nodes {
        looks.tick().await;
    }
}

/// The states of many sources, each with a task of its own.
struct SourceStates {
    receiver: UnboundedReceiver<(usize, bool)>,
    /// Whether the server is available to each source.
    up: Vec<bool>,
}

impl SourceStates {
    async fn of(server: &ApiServer, counting_proxy: &CountingProxy, nodes: u32) -> Result<Self> {
        let kubeconfig = counting_proxy.kubeconfig(server)?;
        let (sender, receiver) = unbounded_channel();
        let mut up = Vec::new();
        for number in 0..nodes {
            let node = format!("node-{number}");
            server.with(|cluster| cluster.apply(pod::of(&node, number)));
            let mut source = open(&kubeconfig, &node).await?;
            let (sender, place) = (sender.clone(), up.len());
            up.push(false);
            spawn_local(async move {
                loop {
                    let is_up = !matches!(source.next().await, SourceEvent::Unavailable(_));
                    if sender.send((place, is_up)).is_err() {
                        return;
                    }
                }
            });
        }
        Ok(Self { receiver, up })
    }

    /// Waits until the server is available to all, or to none.
    async fn until(&mut self, wanted: bool) -> Result<()> {
        while self.up.iter().any(|is_up| *is_up != wanted) {
            let (place, is_up) = self.receiver.recv().await.context("sources have ended")?;
            if let Some(up) = self.up.get_mut(place) {
                *up = is_up;
            }
        }
        Ok(())
    }
}

/// Number of lists so far.
fn lists(server: &ApiServer) -> usize {
    server.with(|cluster| cluster.requests.len() - cluster.count_requests("watch=true"))
}

/// Connections in the fullest second since then.
fn fullest(counting_proxy: &CountingProxy, since: Instant) -> u32 {
    let mut seconds = BTreeMap::<u64, u32>::new();
    for opened in counting_proxy.opened() {
        if let Some(after) = opened.checked_duration_since(since) {
            *seconds.entry(after.as_secs()).or_default() += 1;
        }
    }
    seconds.into_values().max().unwrap_or_default()
}
