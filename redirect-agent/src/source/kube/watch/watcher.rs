//! The watch of one node's pods: a list, and then a watch from the list's version on.
//!
//! A watch that breaks continues at the last version seen. Only if the server no longer has that version (410) is
//! everything listed again, and never from a cache that is older than the last version seen: deleted pods would
//! come back.
//!
//! `kube`'s own watcher does not report when a watch that had failed is up again, lists an older state if it is
//! asked to spare the server, and asks forever for a version that was refused with 410.

use std::time::Duration;

use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Error, ResourceExt as _,
    api::{ListParams, VersionMatch, WatchEvent, WatchParams},
};
use tokio::time::{Instant, timeout};

use super::{
    backoff::{Backoff, jittered},
    pod_event::PodEvent,
    timeouts::Timeouts,
};
use crate::source::kube::failure::{ApiFailure, with_timeout};

/// A watch that was closed sooner counts as a failure.
const SHORTEST_WATCH: Duration = Duration::from_secs(1);
/// A watch is dead if nothing comes for so much longer than the server should leave it open.
const WATCH_GRACE: Duration = Duration::from_secs(15);
/// After so many failures to watch from a version, everything is listed again: a server whose storage was restored
/// from a backup may never reach that version. Failures to reach the server do not count: a server that comes back
/// is most often as it was, and all nodes would list at once.
const MAX_FAILURES: u32 = 5;

/// Events of the pods of a node, without end.
pub(in crate::source::kube) fn pod_events(
    pods: Api<Pod>,
    node: &str,
    timeouts: Timeouts,
) -> BoxStream<'static, PodEvent> {
    let watch = PodWatch {
        pods,
        selector: format!("spec.nodeName={node}"),
        stage: Stage::List { floor: None },
        backoff: Backoff::new(timeouts),
        timeouts,
        failures: 0,
        reported: None,
    };
    stream::unfold(watch, |mut watch| async move {
        let event = watch.next().await;
        Some((event, watch))
    })
    .boxed()
}

struct PodWatch {
    pods: Api<Pod>,
    selector: String,
    stage: Stage,
    backoff: Backoff,
    timeouts: Timeouts,
    /// Failed and broken watches since the last event or list.
    failures: u32,
    /// The reason of the last event, if that was [`PodEvent::Unavailable`].
    reported: Option<String>,
}

enum Stage {
    /// Everything is to be listed, as of this version at least.
    List { floor: Option<String> },
    /// A watch is to be opened from this version.
    Open { version: String },
    /// A watch is open.
    Read {
        version: String,
        events: Events,
        since: Instant,
        /// Longest silence of a live watch.
        dead_after: Duration,
    },
}

type Events = BoxStream<'static, Result<WatchEvent<Pod>, Error>>;

impl PodWatch {
    async fn next(&mut self) -> PodEvent {
        loop {
            self.backoff.wait().await;
            // A stage that fails without a choice of its own is followed by a list.
            let stage = std::mem::replace(&mut self.stage, Stage::List { floor: None });
            let event = match stage {
                Stage::List { floor } => Some(self.list(floor).await),
                Stage::Open { version } => self.open(version).await,
                Stage::Read {
                    version,
                    events,
                    since,
                    dead_after,
                } => self.read(version, events, since, dead_after).await,
            };
            let Some(event) = event else {
                continue;
            };
            let reason = match &event {
                PodEvent::Unavailable(reason) => Some(reason.clone()),
                PodEvent::Relisted(_)
                | PodEvent::Applied(_)
                | PodEvent::Deleted(_)
                | PodEvent::Recovered => None,
            };
            let is_repeated = reason.is_some() && self.reported == reason;
            self.reported = reason;
            if !is_repeated {
                return event;
            }
        }
    }

    async fn list(&mut self, floor: Option<String>) -> PodEvent {
        let mut params = ListParams::default().fields(&self.selector);
        if floor.is_some() {
            params.resource_version = floor;
            params.version_match = Some(VersionMatch::NotOlderThan);
        }
        let mut pods = Vec::new();
        loop {
            let page = match with_timeout(self.pods.list(&params), self.timeouts.response).await {
                Ok(page) => page,
                Err(why) => return self.failed("list pods", &why),
            };
            pods.extend(page.items);
            params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if params.continue_token.is_some() {
                continue;
            }
            let version = page.metadata.resource_version;
            let Some(version) = version.filter(|version| !version.is_empty()) else {
                return self.failed("list pods", &ApiFailure::NoVersion);
            };
            self.failures = 0;
            self.stage = Stage::Open { version };
            return PodEvent::Relisted(pods);
        }
    }

    async fn open(&mut self, version: String) -> Option<PodEvent> {
        let open_for = jittered(self.timeouts.watch);
        let seconds = open_for.as_secs().try_into().unwrap_or(u32::MAX);
        let params = WatchParams::default()
            .fields(&self.selector)
            .timeout(seconds);
        let opened = with_timeout(self.pods.watch(&params, &version), self.timeouts.response).await;
        match opened.map(futures_util::StreamExt::boxed) {
            Ok(events) => {
                let since = Instant::now();
                self.stage = Stage::Read {
                    version,
                    events,
                    since,
                    dead_after: open_for.saturating_add(WATCH_GRACE),
                };
                self.reported.is_some().then_some(PodEvent::Recovered)
            }
            Err(ApiFailure::Api(status)) if status.code == 410 => {
                self.expired(version);
                None
            }
            Err(why) => {
                let is_refused = matches!(&why, ApiFailure::Api(status) if status.code == 400);
                if !matches!(why, ApiFailure::Other(_)) {
                    self.failures = self.failures.saturating_add(1);
                }
                if self.failures < MAX_FAILURES && !is_refused {
                    self.stage = Stage::Open { version };
                }
                Some(self.failed("watch pods", &why))
            }
        }
    }

    async fn read(
        &mut self,
        version: String,
        mut events: Events,
        since: Instant,
        dead_after: Duration,
    ) -> Option<PodEvent> {
        let (version, event) = match timeout(dead_after, events.next()).await {
            Ok(Some(Ok(event))) => match event {
                WatchEvent::Added(pod) | WatchEvent::Modified(pod) => (
                    pod.resource_version(),
                    Some(PodEvent::Applied(Box::new(pod))),
                ),
                WatchEvent::Deleted(pod) => (
                    pod.resource_version(),
                    Some(PodEvent::Deleted(Box::new(pod))),
                ),
                WatchEvent::Bookmark(mark) => (Some(mark.metadata.resource_version), None),
                WatchEvent::Error(status) if status.code == 410 => {
                    self.expired(version);
                    return None;
                }
                WatchEvent::Error(status) => {
                    return self.broken(version, &ApiFailure::Api(status));
                }
            },
            Ok(Some(Err(Error::Api(status)))) if status.code == 410 => {
                self.expired(version);
                return None;
            }
            Ok(Some(Err(error))) => return self.broken(version, &ApiFailure::Other(error)),
            Ok(None) if since.elapsed() < SHORTEST_WATCH => {
                return self.broken(version, &ApiFailure::Closed);
            }
            // The server closed the watch when its time was up, or the watch is dead.
            Ok(None) | Err(_) => {
                self.succeeded();
                self.stage = Stage::Open { version };
                return None;
            }
        };
        self.succeeded();
        match version.filter(|version| !version.is_empty()) {
            Some(version) => {
                self.stage = Stage::Read {
                    version,
                    events,
                    since,
                    dead_after,
                };
            }
            // Without a version there is nothing to continue from: everything is listed.
            None => self.backoff.grow(),
        }
        event
    }

    /// The server no longer has this version.
    fn expired(&mut self, version: String) {
        self.backoff.grow();
        self.stage = Stage::List {
            floor: Some(version),
        };
    }

    /// A watch ended before its time. One such end is normal, and the next watch continues from there; a second one
    /// in a row is reported.
    fn broken(&mut self, version: String, why: &ApiFailure) -> Option<PodEvent> {
        self.failures = self.failures.saturating_add(1);
        if self.failures < MAX_FAILURES {
            self.stage = Stage::Open { version };
        }
        let event = self.failed("watch pods", why);
        (self.failures > 1).then_some(event)
    }

    const fn succeeded(&mut self) {
        self.failures = 0;
        self.backoff.reset();
    }

    fn failed(&mut self, action: &str, why: &ApiFailure) -> PodEvent {
        self.backoff.grow();
        PodEvent::Unavailable(format!("{action} ({}): {why}", self.selector))
    }
}
