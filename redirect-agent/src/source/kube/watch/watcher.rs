//! The pods of one node, as the API server tells them: listed once, then watched from there on.
//!
//! A watch that breaks goes on at the version it had come to. Only if the server no longer has that
//! version (410) is everything listed again, and never from a cache that is older than what was seen
//! already: what has gone would come back.
//!
//! `kube`'s own watcher does not say when a watch that had failed is up again, lists in an older
//! state if it is asked to spare the server, and asks for a version that was refused with 410 for
//! ever.

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
    news::News,
    patience::Patience,
    pauses::{Pauses, by_chance},
};
use crate::source::kube::failure::{Failure, answered};

/// A watch that was closed sooner counts as a failure.
const SOON: Duration = Duration::from_secs(1);
/// A watch from which nothing comes for so much longer than the server leaves it open is dead.
const MARGIN: Duration = Duration::from_secs(15);
/// After so many failures to watch on from a version, everything is listed again: a server whose
/// storage was restored from a backup may never come to that version. One that cannot be reached has
/// not failed in that: it is most often as it was when it comes back, and all nodes would list at once.
const ATTEMPTS: u32 = 5;

/// What the API server says of the pods of a node, for ever.
pub(in crate::source::kube) fn news(
    pods: Api<Pod>,
    node: &str,
    patience: Patience,
) -> BoxStream<'static, News> {
    let watch = Watch {
        pods,
        selector: format!("spec.nodeName={node}"),
        stage: Stage::List { floor: None },
        pauses: Pauses::new(patience),
        patience,
        failures: 0,
        trouble: None,
    };
    stream::unfold(watch, |mut watch| async move {
        let news = watch.next().await;
        Some((news, watch))
    })
    .boxed()
}

struct Watch {
    pods: Api<Pod>,
    selector: String,
    stage: Stage,
    pauses: Pauses,
    patience: Patience,
    /// How often a watch has failed or broken off since the last event or list.
    failures: u32,
    /// Why it cannot be asked, if that is what was said last.
    trouble: Option<String>,
}

enum Stage {
    /// Everything is to be listed, as of this version at least.
    List { floor: Option<String> },
    /// A watch is to be opened from a version on.
    Open { version: String },
    /// A watch is open.
    Follow {
        version: String,
        events: Events,
        since: Instant,
        /// Without a word.
        dead_after: Duration,
    },
}

type Events = BoxStream<'static, Result<WatchEvent<Pod>, Error>>;

impl Watch {
    async fn next(&mut self) -> News {
        loop {
            self.pauses.wait().await;
            // What fails leaves it to be listed.
            let stage = std::mem::replace(&mut self.stage, Stage::List { floor: None });
            let news = match stage {
                Stage::List { floor } => Some(self.list(floor).await),
                Stage::Open { version } => self.open(version).await,
                Stage::Follow {
                    version,
                    events,
                    since,
                    dead_after,
                } => self.follow(version, events, since, dead_after).await,
            };
            let Some(news) = news else {
                continue;
            };
            let trouble = match &news {
                News::Trouble(why) => Some(why.clone()),
                News::All(_) | News::Changed(_) | News::Gone(_) | News::Back => None,
            };
            let is_said = trouble.is_some() && self.trouble == trouble;
            self.trouble = trouble;
            if !is_said {
                return news;
            }
        }
    }

    async fn list(&mut self, floor: Option<String>) -> News {
        let mut params = ListParams::default().fields(&self.selector);
        if floor.is_some() {
            params.resource_version = floor;
            params.version_match = Some(VersionMatch::NotOlderThan);
        }
        let mut pods = Vec::new();
        loop {
            let page = match answered(self.pods.list(&params), self.patience.answer).await {
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
                return self.failed("list pods", &Failure::NoVersion);
            };
            self.failures = 0;
            self.stage = Stage::Open { version };
            return News::All(pods);
        }
    }

    async fn open(&mut self, version: String) -> Option<News> {
        let open_for = by_chance(self.patience.watch);
        let seconds = open_for.as_secs().try_into().unwrap_or(u32::MAX);
        let params = WatchParams::default()
            .fields(&self.selector)
            .timeout(seconds);
        let opened = answered(self.pods.watch(&params, &version), self.patience.answer).await;
        match opened.map(futures_util::StreamExt::boxed) {
            Ok(events) => {
                let since = Instant::now();
                self.stage = Stage::Follow {
                    version,
                    events,
                    since,
                    dead_after: open_for.saturating_add(MARGIN),
                };
                self.trouble.is_some().then_some(News::Back)
            }
            Err(Failure::Api(status)) if status.code == 410 => {
                self.expired(version);
                None
            }
            Err(why) => {
                let is_refused = matches!(&why, Failure::Api(status) if status.code == 400);
                if !matches!(why, Failure::Other(_)) {
                    self.failures = self.failures.saturating_add(1);
                }
                if self.failures < ATTEMPTS && !is_refused {
                    self.stage = Stage::Open { version };
                }
                Some(self.failed("watch pods", &why))
            }
        }
    }

    async fn follow(
        &mut self,
        version: String,
        mut events: Events,
        since: Instant,
        dead_after: Duration,
    ) -> Option<News> {
        let (version, news) = match timeout(dead_after, events.next()).await {
            Ok(Some(Ok(event))) => match event {
                WatchEvent::Added(pod) | WatchEvent::Modified(pod) => {
                    (pod.resource_version(), Some(News::Changed(Box::new(pod))))
                }
                WatchEvent::Deleted(pod) => {
                    (pod.resource_version(), Some(News::Gone(Box::new(pod))))
                }
                WatchEvent::Bookmark(mark) => (Some(mark.metadata.resource_version), None),
                WatchEvent::Error(status) if status.code == 410 => {
                    self.expired(version);
                    return None;
                }
                WatchEvent::Error(status) => return self.broken(version, &Failure::Api(status)),
            },
            Ok(Some(Err(Error::Api(status)))) if status.code == 410 => {
                self.expired(version);
                return None;
            }
            Ok(Some(Err(error))) => return self.broken(version, &Failure::Other(error)),
            Ok(None) if since.elapsed() < SOON => return self.broken(version, &Failure::Closed),
            // It was open for as long as was asked for; or it is dead.
            Ok(None) | Err(_) => {
                self.succeeded();
                self.stage = Stage::Open { version };
                return None;
            }
        };
        self.succeeded();
        match version.filter(|version| !version.is_empty()) {
            Some(version) => {
                self.stage = Stage::Follow {
                    version,
                    events,
                    since,
                    dead_after,
                };
            }
            // There is nothing to go on from.
            None => self.pauses.grow(),
        }
        news
    }

    /// The server has forgotten a version.
    fn expired(&mut self, version: String) {
        self.pauses.grow();
        self.stage = Stage::List {
            floor: Some(version),
        };
    }

    /// A watch ended before its time: that happens, and the next one goes on from there. Only if that
    /// breaks off as well it is worth a word.
    fn broken(&mut self, version: String, why: &Failure) -> Option<News> {
        self.failures = self.failures.saturating_add(1);
        if self.failures < ATTEMPTS {
            self.stage = Stage::Open { version };
        }
        let news = self.failed("watch pods", why);
        (self.failures > 1).then_some(news)
    }

    const fn succeeded(&mut self) {
        self.failures = 0;
        self.pauses.reset();
    }

    fn failed(&mut self, what: &str, why: &Failure) -> News {
        self.pauses.grow();
        News::Trouble(format!("{what} ({}): {why}", self.selector))
    }
}
