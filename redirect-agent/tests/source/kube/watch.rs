//! Lists and watches, and their failures.

use std::time::Duration;

use redirect_agent::source::Source as _;
use redirect_fake_apiserver::{ApiServer, Cluster, ListAnswer, WatchAnswer};
use serde_json::json;
use tokio::time::timeout;

use super::{
    fixture::{pod, put, settings},
    listener::{LONG, Listener},
};

/// Runs a script on a cluster of three pods, once before and once after the source was in sync. In the end
/// both must be in sync. Returns the reported failures.
async fn run(script: impl Fn(&mut Cluster)) -> Vec<String> {
    let mut failures = Vec::new();
    for is_begun in [false, true] {
        let server = ApiServer::start().unwrap();
        server.with(|cluster| put(cluster, &["one", "two", "three"]));
        let mut listener = Listener::new(&server);
        if is_begun {
            listener.until_in_sync().await;
            // The script's answers are for the next requests.
            server.disconnect();
        }
        server.with(&script);
        listener.until_in_sync().await;
        failures.extend(listener.failures);
    }
    failures
}

#[tokio::test]
async fn a_broken_watch_continues_at_its_version() {
    let failures = run(|cluster| {
        for answer in [
            WatchAnswer::Disconnect,
            WatchAnswer::Close,
            WatchAnswer::Disconnect,
            WatchAnswer::Duplicate,
        ] {
            cluster.answer_next_watch(answer);
        }
        cluster.delete("shop/two");
        cluster.apply(pod("one", "2"));
        put(cluster, &["four"]);
        cluster.delete("shop/four");
        put(cluster, &["four"]);
    })
    .await;
    // One broken watch is not reported; two in a row are.
    assert!(!failures.is_empty());
}

#[tokio::test]
async fn one_broken_watch_is_not_reported_and_causes_no_list() {
    let server = ApiServer::start().unwrap();
    let mut listener = Listener::in_sync(&server, &["one"]).await;
    server.disconnect();
    listener.until_in_sync().await;
    assert_eq!(listener.failures, Vec::<String>::new());
    assert_eq!(listener.snapshots, 1);
    server.with(|cluster| {
        assert_eq!(cluster.count_requests("watch=true"), 2);
        assert_eq!(cluster.count_requests("allowWatchBookmarks=true"), 2);
        assert_eq!(
            cluster.count_requests("fieldSelector=spec.nodeName%3Dthis"),
            3
        );
        assert_eq!(cluster.requests.len(), 3, "{:?}", cluster.requests);
    });
}

#[tokio::test]
async fn a_forgotten_version_causes_a_list() {
    for by in [
        None,
        Some(WatchAnswer::Status(410)),
        Some(WatchAnswer::ErrorEvent(410)),
    ] {
        let failures = run(|cluster| {
            if let Some(answer) = by {
                cluster.answer_next_watch(answer);
            }
            cluster.delete("shop/two");
            cluster.apply(pod("one", "2"));
            cluster.compact();
        })
        .await;
        assert_eq!(failures, Vec::<String>::new(), "{by:?}");
    }
}

#[tokio::test]
async fn a_new_list_is_no_older_than_what_was_seen() {
    let server = ApiServer::start().unwrap();
    let mut listener = Listener::in_sync(&server, &["one"]).await;
    let seen = server.with(|cluster| {
        cluster.delete("shop/one");
        cluster.resource_version()
    });
    while !listener.described().is_empty() {
        listener.next().await;
    }
    server.with(Cluster::compact);
    server.disconnect();
    listener.until_in_sync().await;
    assert_eq!(listener.snapshots, 2);
    server.with(|cluster| {
        let floor = format!("resourceVersion={seen}&resourceVersionMatch=NotOlderThan");
        assert_eq!(cluster.count_requests(&floor), 1, "{:?}", cluster.requests);
        // The first list asks for the newest state, and not for that of a cache.
        assert!(!cluster.requests[0].contains("resourceVersion"));
    });
}

#[tokio::test]
async fn a_list_comes_in_pages_and_restarts_if_the_rest_is_forgotten() {
    run(|cluster| {
        put(cluster, &["four", "five", "six"]);
        cluster.compact();
        cluster.answer_next_list(ListAnswer::ExpiredContinue(2));
        cluster.answer_next_list(ListAnswer::Paged(1));
        cluster.delete("shop/two");
    })
    .await;
}

#[tokio::test]
async fn pods_that_come_change_and_go_during_a_list_are_reported() {
    run(|cluster| {
        cluster.compact();
        let between = |cluster: &mut Cluster| {
            cluster.delete("shop/one");
            cluster.delete("shop/two");
            cluster.apply(pod("three", "3"));
            put(cluster, &["four", "two"]);
        };
        cluster.answer_next_list(ListAnswer::PagedWithChange(1, Box::new(between)));
    })
    .await;
}

#[tokio::test]
async fn a_pod_deleted_during_a_list_and_then_forgotten_is_removed() {
    run(|cluster| {
        cluster.compact();
        let between = |cluster: &mut Cluster| {
            cluster.delete("shop/one");
            cluster.compact();
        };
        cluster.answer_next_list(ListAnswer::PagedWithChange(1, Box::new(between)));
    })
    .await;
}

#[tokio::test]
async fn failures_are_reported_and_retried() {
    for (list, words) in [
        (ListAnswer::Status(500), "as the script says (500)"),
        (ListAnswer::Status(429), "as the script says (429)"),
        (ListAnswer::Status(403), "as the script says (403)"),
        (ListAnswer::Disconnect, "list pods"),
    ] {
        let server = ApiServer::start().unwrap();
        server.with(|cluster| {
            put(cluster, &["one", "two"]);
            cluster.answer_next_list(list);
            cluster.answer_next_list(ListAnswer::Status(503));
        });
        let mut listener = Listener::new(&server);
        listener.until_in_sync().await;
        let [first, second] = listener.failures.as_slice() else {
            panic!("{:?}", listener.failures);
        };
        assert!(first.contains(words), "{first}");
        assert!(first.contains("spec.nodeName=this"), "{first}");
        assert!(second.contains("(503)"), "{second}");
    }
}

#[tokio::test]
async fn a_watch_that_cannot_be_opened_is_retried_at_its_version() {
    for watch in [WatchAnswer::Status(500), WatchAnswer::Status(403)] {
        let server = ApiServer::start().unwrap();
        let mut listener = Listener::in_sync(&server, &["one", "two"]).await;
        server.disconnect();
        server.with(|cluster| {
            cluster.answer_next_watch(watch);
            cluster.answer_next_watch(watch);
            cluster.delete("shop/one");
        });
        listener.until_in_sync().await;
        assert_eq!(listener.failures.len(), 1, "{:?}", listener.failures);
        server.with(|cluster| assert_eq!(cluster.count_requests("watch=true"), 4));
        let lists =
            server.with(|cluster| cluster.requests.len() - cluster.count_requests("watch=true"));
        assert_eq!(lists, 1, "{watch:?}");
    }
}

#[tokio::test]
async fn a_silent_server_is_asked_again() {
    let server = ApiServer::start().unwrap();
    server.with(|cluster| {
        put(cluster, &["one"]);
        cluster.answer_next_list(ListAnswer::Hang);
        cluster.answer_next_watch(WatchAnswer::Hang);
    });
    let mut impatient = settings(Vec::new());
    impatient.timeouts.response = Duration::from_millis(300);
    let mut listener = Listener::of(&server, impatient);
    listener.until_in_sync().await;
    for what in ["list pods", "watch pods"] {
        let mut failures = listener.failures.iter();
        let of_it = |trouble: &&String| trouble.starts_with(what);
        let trouble = failures.find(of_it).unwrap();
        assert!(trouble.contains("no answer within"), "{trouble}");
    }
}

#[tokio::test]
async fn recovery_is_reported_without_changes() {
    let server = ApiServer::start().unwrap();
    let mut listener = Listener::in_sync(&server, &["one"]).await;
    server.disconnect();
    server.with(|cluster| cluster.answer_next_watch(WatchAnswer::Status(500)));
    let trouble = |listener: &Listener<'_>| listener.desired.unavailable().is_some();
    while !trouble(&listener) {
        listener.next().await;
    }
    let before = listener.described();
    while trouble(&listener) {
        listener.next().await;
    }
    assert_eq!(listener.described(), before);
}

#[tokio::test]
async fn a_server_that_never_reaches_the_version_is_listed_again() {
    let server = ApiServer::start().unwrap();
    let mut listener = Listener::in_sync(&server, &["one"]).await;
    // The storage was restored from a backup: "Too large resource version".
    server.disconnect();
    server.with(|cluster| {
        for _ in 0..5 {
            cluster.answer_next_watch(WatchAnswer::Status(504));
        }
        cluster.answer_next_list(ListAnswer::Status(504));
    });
    listener.until_in_sync().await;
    // The second list asks for that version, too.
    let lists =
        server.with(|cluster| cluster.requests.len() - cluster.count_requests("watch=true"));
    assert_eq!(lists, 3);
}

#[tokio::test]
async fn an_invalid_watch_event_is_reported() {
    let server = ApiServer::start().unwrap();
    server.with(|cluster| {
        put(cluster, &["one"]);
        cluster.answer_next_watch(WatchAnswer::MalformedEvent);
        cluster.answer_next_watch(WatchAnswer::MalformedEvent);
    });
    let mut listener = Listener::new(&server);
    listener.until_in_sync().await;
    let [trouble] = listener.failures.as_slice() else {
        panic!("{:?}", listener.failures);
    };
    assert!(trouble.contains("watch pods"), "{trouble}");
}

#[tokio::test]
async fn bookmarks_alone_advance_the_version() {
    let server = ApiServer::start().unwrap();
    let mut listener = Listener::in_sync(&server, &["one"]).await;
    let marked = server.with(|cluster| {
        (0..5).for_each(|_| cluster.bookmark());
        cluster.resource_version()
    });
    // A pod of another node advances no version here.
    let mut other = pod("other", "1");
    other["spec"]["nodeName"] = json!("another");
    server.with(|cluster| cluster.apply(other));
    // A bookmark is no event: the next watch shows it.
    let from = format!("resourceVersion={marked}");
    let goes_on = async {
        loop {
            let waited = timeout(Duration::from_millis(300), listener.source.next()).await;
            assert!(waited.is_err(), "{waited:?}");
            if server.with(|cluster| cluster.count_requests(&from)) > 0 {
                return;
            }
            server.disconnect();
        }
    };
    timeout(LONG, goes_on).await.unwrap();
    listener.until_in_sync().await;
    assert_eq!(listener.snapshots, 1);
}

#[tokio::test]
async fn an_unreachable_server_is_not_listed_again() {
    let server = ApiServer::start().unwrap();
    let mut listener = Listener::in_sync(&server, &["one"]).await;
    server.down();
    // Enough for more than twenty attempts.
    let with_background = async {
        loop {
            listener.next().await;
        }
    };
    assert!(
        timeout(Duration::from_millis(500), with_background)
            .await
            .is_err()
    );
    server.up();
    server.with(|cluster| put(cluster, &["two"]));
    listener.until_in_sync().await;
    let lists =
        server.with(|cluster| cluster.requests.len() - cluster.count_requests("watch=true"));
    assert_eq!(lists, 1);
}
