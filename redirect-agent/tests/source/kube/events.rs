//! Events about pods.

use redirect_agent::{
    outcome::{Outcome, Reporter as _, State},
    plan::Action,
    source::kube::{EventReporter, EventResult},
    workload::WorkloadId,
};
use redirect_fake_apiserver::ApiServer;
use serde_json::Value;
use tokio::time::timeout;

use super::{
    fixture::{NODE, client, put},
    listener::{LONG, Listener, uid},
};

/// The Events on the server: type, reason, uid of the pod, and text.
fn events(server: &ApiServer) -> Vec<[String; 4]> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    server.with(|cluster| {
        let events = cluster.events.iter().map(|event| {
            let uid = &event["regarding"]["uid"];
            [&event["type"], &event["reason"], uid, &event["note"]].map(text)
        });
        events.collect()
    })
}

/// A reporter of passes about one pod.
struct Passes<'a> {
    server: &'a ApiServer,
    reporter: EventReporter,
    id: WorkloadId,
}

impl<'a> Passes<'a> {
    async fn of(server: &'a ApiServer) -> Self {
        server.with(|cluster| put(cluster, &["one"]));
        let mut listener = Listener::new(server);
        listener.next().await;
        let id = listener.desired.workloads().next().unwrap().id.clone();
        Self {
            server,
            reporter: EventReporter::new(client(server), NODE),
            id,
        }
    }

    fn pass(&mut self, state: State, detail: Option<&str>, action: Option<Action>) {
        self.reporter.report(&[Outcome {
            id: self.id.clone(),
            state,
            detail: detail.map(str::to_owned),
            action,
            remarks: Vec::new(),
            warnings: Vec::new(),
        }]);
    }

    /// Reports passes until the server has this many Events.
    async fn until(&mut self, count: usize, state: State, detail: &str) {
        let written = timeout(LONG, async {
            while events(self.server).len() < count {
                self.pass(state, Some(detail), None);
                tokio::task::yield_now().await;
            }
        });
        written.await.unwrap();
    }
}

#[tokio::test]
async fn a_warning_about_a_pod_is_one_event() {
    let server = ApiServer::start().unwrap();
    let mut passes = Passes::of(&server).await;
    passes.until(1, State::Refused, "annotation X").await;
    for _ in 0..50 {
        passes.pass(State::Refused, Some("annotation X"), None);
        tokio::task::yield_now().await;
    }
    passes.until(2, State::Refused, "annotation Y").await;
    passes.until(3, State::Failed, "no memory").await;
    // A success in between makes the same failure a new one.
    passes.pass(State::Attached, None, None);
    passes.until(4, State::Failed, "no memory").await;
    let uid = uid(&passes.id);
    let refused = "TrafficRedirectionRefused";
    let failed = "TrafficRedirectionFailed";
    let warning = |reason: &str, note: &str| ["Warning", reason, uid, note].map(str::to_owned);
    assert_eq!(
        events(&server),
        [
            warning(
                refused,
                "annotation X; the pod's redirection stays as it was"
            ),
            warning(
                refused,
                "annotation Y; the pod's redirection stays as it was"
            ),
            warning(failed, "no memory; the agent retries"),
            warning(failed, "no memory; the agent retries"),
        ]
    );
    server.with(|cluster| {
        let event = &cluster.events[0];
        assert_eq!(
            event["path"],
            "/apis/events.k8s.io/v1/namespaces/shop/events"
        );
        assert_eq!(event["regarding"]["kind"], "Pod");
        assert_eq!(event["regarding"]["name"], "one");
        assert_eq!(event["metadata"]["namespace"], "shop");
        assert_eq!(event["reportingController"], "redirect-agent");
        assert_eq!(event["reportingInstance"], NODE);
        assert!(event["eventTime"].is_string());
    });
}

#[tokio::test]
async fn a_warning_about_settings_is_an_event_beside_that_of_the_attach() {
    let server = ApiServer::start().unwrap();
    let mut passes = Passes::of(&server).await;
    let outcome = |action, warnings: &[&str]| Outcome {
        id: passes.id.clone(),
        state: State::Attached,
        detail: None,
        action,
        remarks: vec!["IPv6 is left alone".to_owned()],
        warnings: warnings.iter().map(|text| (*text).to_owned()).collect(),
    };
    let outcomes = [
        outcome(Some(Action::Attach), &["no interface a", "no interface b"]),
        // Later passes change nothing; one finds that no proxy listens.
        outcome(None, &[]),
        outcome(None, &["no socket listens"]),
        outcome(None, &[]),
    ];
    for outcome in outcomes {
        passes.reporter.report(&[outcome]);
    }
    let written = timeout(LONG, async {
        while events(&server).len() < 3 {
            tokio::task::yield_now().await;
        }
    });
    written.await.unwrap();
    let uid = uid(&passes.id);
    let event = |kind: &str, reason: &str, note: &str| [kind, reason, uid, note].map(str::to_owned);
    let warning = "TrafficRedirectionWarning";
    assert_eq!(
        events(&server),
        [
            event(
                "Normal",
                "TrafficRedirected",
                "connections are redirected to the sidecar; IPv6 is left alone"
            ),
            event("Warning", warning, "no interface a; no interface b"),
            event("Warning", warning, "no socket listens"),
        ]
    );
}

#[tokio::test]
async fn a_rejected_event_is_written_again() {
    let server = ApiServer::start().unwrap();
    let mut passes = Passes::of(&server).await;
    server.with(|cluster| {
        for status in [500, 403, 429] {
            cluster.answer_next_event(status);
        }
    });
    passes.until(1, State::Refused, "annotation X").await;
    server.with(|cluster| assert_eq!(cluster.count_requests("POST"), 4));
    let counts = passes.reporter.counts();
    let written = timeout(LONG, async {
        while counts.count(EventResult::Written) < 1 {
            tokio::task::yield_now().await;
        }
    });
    written.await.unwrap();
    assert_eq!(counts.count(EventResult::Failed), 3);
    assert_eq!(counts.count(EventResult::Dropped), 0);
}

#[tokio::test]
async fn attaching_a_pod_writes_one_event() {
    let server = ApiServer::start().unwrap();
    let mut passes = Passes::of(&server).await;
    // After a restart of the agent, the pod was attached before.
    passes.pass(State::Attached, None, None);
    passes.pass(State::Waiting, Some("there is no cgroup"), None);
    passes.pass(State::Attached, None, Some(Action::Attach));
    let written = timeout(LONG, async {
        while events(&server).is_empty() {
            passes.pass(State::Attached, None, None);
            tokio::task::yield_now().await;
        }
        passes.pass(State::Attached, None, Some(Action::Update));
        while events(&server).len() < 2 {
            passes.pass(State::Attached, None, None);
            tokio::task::yield_now().await;
        }
    });
    written.await.unwrap();
    let written = events(&server);
    let reasons: Vec<_> = written
        .iter()
        .map(|[kind, reason, ..]| [kind.as_str(), reason.as_str()])
        .collect();
    assert_eq!(
        reasons,
        [
            ["Normal", "TrafficRedirected"],
            ["Normal", "TrafficRedirectionChanged"]
        ]
    );
}

#[tokio::test]
async fn many_events_are_rate_limited() {
    let server = ApiServer::start().unwrap();
    let mut passes = Passes::of(&server).await;
    for number in 0..1000 {
        let (namespace, rest) = passes.id.key.split_once('/').unwrap();
        let uid = rest.rsplit('/').next().unwrap();
        passes.id.key = format!("{namespace}/pod-{number}/{uid}");
        passes.pass(State::Attached, None, Some(Action::Attach));
        if number % 10 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let written = timeout(LONG, async {
        while events(&server).len() < 100 {
            tokio::task::yield_now().await;
        }
    });
    written.await.unwrap();
    // More tokens than that would take longer than this test.
    assert!(events(&server).len() < 150);
    let dropped = passes.reporter.counts().count(EventResult::Dropped);
    assert!((850..=900).contains(&dropped), "{dropped}");
}
