//! The contract of [`Source`], as tests for every source.

use std::{collections::BTreeMap, time::Duration};

use redirect_agent::{
    desired::Desired,
    source::{Source, SourceEvent},
    workload::Workload,
};
use redirect_user::config::RedirectConfig;
use tokio::time::timeout;

/// Longer than any source takes to send an event.
const LONG: Duration = Duration::from_secs(20);

/// A place that a source reads, and the ways to change it.
pub(crate) trait SourceFixture: Sync {
    type Source: Source;

    /// A source of this place.
    fn source(&self) -> Self::Source;
    /// Describes a workload with this port, or changes it.
    fn describe(&self, name: &str, port: u16);
    /// Describes an invalid workload.
    fn describe_invalid(&self, name: &str);
    /// Removes a workload.
    fn remove(&self, name: &str);
    /// Makes the whole place unavailable.
    fn make_unavailable(&self);
    /// Makes it available again, with the same contents.
    fn restore(&self);
    /// The port of a configuration.
    fn port(config: &RedirectConfig) -> u16;
}

/// A source, and the state that its events have built.
struct Listener<M: SourceFixture> {
    source: M::Source,
    desired: Desired,
    events: usize,
}

impl<M: SourceFixture> Listener<M> {
    fn new(fixture: &M) -> Self {
        let source = fixture.source();
        Self {
            desired: Desired::new(source.name()),
            source,
            events: 0,
        }
    }

    async fn next(&mut self) -> SourceEvent {
        let event = timeout(LONG, self.source.next()).await;
        let event = event.unwrap_or_else(|_| panic!("no event; so far {:?}", self.desired));
        self.events += 1;
        self.desired.apply(event.clone());
        event
    }

    /// Waits until the state is this: names of workloads, and their ports unless they are invalid.
    async fn until(&mut self, expected: &[(&str, Option<u16>)]) {
        let expected: BTreeMap<_, _> = expected
            .iter()
            .map(|(name, port)| ((*name).to_owned(), *port))
            .collect();
        while self.described() != expected {
            self.next().await;
        }
    }

    fn described(&self) -> BTreeMap<String, Option<u16>> {
        let port = |workload: &Workload| Some(M::port(&workload.policy.as_ref().ok()?.config));
        let workloads = self.desired.workloads();
        workloads
            .map(|workload| (short(workload).to_owned(), port(workload)))
            .collect()
    }

    fn workload(&self, name: &str) -> &Workload {
        let mut workloads = self.desired.workloads();
        let found = workloads.find(|workload| short(workload) == name);
        found.unwrap_or_else(|| panic!("no {name}"))
    }
}

/// Name of a workload without its namespace.
fn short(workload: &Workload) -> &str {
    let name = workload.name.as_str();
    name.rsplit_once('/').map_or(name, |(_, name)| name)
}

/// The first event is a snapshot of everything.
pub(crate) async fn begins_with_a_snapshot(fixture: &impl SourceFixture) {
    let mut empty = Listener::new(fixture);
    assert_eq!(empty.next().await, SourceEvent::Snapshot(Vec::new()));
    fixture.describe("one", 15001);
    fixture.describe("two", 15002);
    let mut full = Listener::new(fixture);
    assert!(matches!(full.next().await, SourceEvent::Snapshot(_)));
    full.until(&[("one", Some(15001)), ("two", Some(15002))])
        .await;
    assert_eq!(full.events, 1, "the first snapshot has all");
}

/// Every change is an event, and ids stay the same.
pub(crate) async fn reports_every_change(fixture: &impl SourceFixture) {
    fixture.describe("one", 15001);
    let mut listener = Listener::new(fixture);
    listener.until(&[("one", Some(15001))]).await;
    let id = listener.workload("one").id.clone();
    fixture.describe("one", 15002);
    fixture.describe("two", 15003);
    listener
        .until(&[("one", Some(15002)), ("two", Some(15003))])
        .await;
    assert_eq!(listener.workload("one").id, id);
    fixture.remove("two");
    listener.until(&[("one", Some(15002))]).await;
    fixture.describe("two", 15004);
    listener
        .until(&[("one", Some(15002)), ("two", Some(15004))])
        .await;
}

/// An invalid workload stays described, in the same cgroup and with the problem.
pub(crate) async fn names_invalid_descriptions(fixture: &impl SourceFixture) {
    fixture.describe("one", 15001);
    fixture.describe("two", 15002);
    let mut listener = Listener::new(fixture);
    listener
        .until(&[("one", Some(15001)), ("two", Some(15002))])
        .await;
    let before = listener.workload("one").clone();
    fixture.describe_invalid("one");
    listener.until(&[("one", None), ("two", Some(15002))]).await;
    let spoiled = listener.workload("one");
    assert_eq!((&spoiled.id, &spoiled.cgroup), (&before.id, &before.cgroup));
    let error = spoiled.policy.clone().unwrap_err();
    assert!(error.contains("one"), "{error}");
    fixture.describe("one", 15003);
    listener
        .until(&[("one", Some(15003)), ("two", Some(15002))])
        .await;
    assert_eq!(listener.workload("one").cgroup, before.cgroup);
}

/// An unavailable place removes no workload.
pub(crate) async fn keeps_descriptions_while_unavailable(fixture: &impl SourceFixture) {
    fixture.describe("one", 15001);
    let mut listener = Listener::new(fixture);
    listener.until(&[("one", Some(15001))]).await;
    fixture.make_unavailable();
    while !matches!(listener.next().await, SourceEvent::Unavailable(_)) {
        assert_eq!(listener.described().len(), 1);
    }
    assert_eq!(listener.described().len(), 1);
    fixture.restore();
    assert!(!matches!(
        listener.next().await,
        SourceEvent::Unavailable(_)
    ));
    listener.until(&[("one", Some(15001))]).await;
    let mut late = Listener::new(fixture);
    late.until(&[("one", Some(15001))]).await;
}

/// Cancelled calls of `next` lose no event.
pub(crate) async fn loses_nothing_when_cancelled(fixture: &impl SourceFixture) {
    let mut listener = Listener::new(fixture);
    listener.until(&[]).await;
    fixture.describe("one", 15001);
    fixture.describe("two", 15002);
    let begun = std::time::Instant::now();
    while listener.described().len() < 2 {
        assert!(begun.elapsed() < LONG, "{:?}", listener.described());
        let waited = timeout(Duration::from_millis(1), listener.source.next()).await;
        if let Ok(event) = waited {
            listener.desired.apply(event);
        }
    }
    listener
        .until(&[("one", Some(15001)), ("two", Some(15002))])
        .await;
}
