//! Answering what the plugin asks.

use std::{sync::Arc, time::Duration};

use redirect_cni::protocol::{Answer, Ask, PodRef, Sandbox as Made};
use redirect_user::sys::netns::NetnsRef;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until, timeout},
};
use tracing::{debug, info, warn};

use super::request::{Request, Verdict};
use crate::{
    desired::Sandbox,
    outcome::{State, WorkloadStatus},
    source::kube::{Found, PodLookup},
    status::Board,
    workload::{Workload, WorkloadId},
};

/// How long things may take. To find a pod and to attach it is together less than the plugin waits, so
/// that it hears what was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For the API server to know a pod, asked again and again; the last answer included.
    pub find: Duration,
    /// For one answer of it, if that is less.
    pub answer: Duration,
    /// Before it is asked again.
    pub pause: Duration,
    /// For a pod to be attached.
    pub attach: Duration,
}

impl Default for Limits {
    /// The pause is that of Istio's CNI plugin.
    fn default() -> Self {
        Self {
            find: Duration::from_secs(18),
            answer: Duration::from_secs(5),
            pause: Duration::from_secs(1),
            attach: Duration::from_secs(10),
        }
    }
}

/// Whoever answers.
#[derive(Debug)]
pub struct Desk {
    pods: PodLookup,
    board: Arc<Board>,
    requests: mpsc::Sender<Request>,
    limits: Limits,
}

/// Done, or another answer.
type Answered = Result<(), Answer>;

const fn failed(reason: String, again: bool) -> Answer {
    Answer::Failed { reason, again }
}

impl Desk {
    /// Asks `pods`, has `requests` done, and reads on `board` how it stands.
    pub const fn new(
        pods: PodLookup,
        board: Arc<Board>,
        requests: mpsc::Sender<Request>,
        limits: Limits,
    ) -> Self {
        Self {
            pods,
            board,
            requests,
            limits,
        }
    }

    /// The answer to a question.
    pub async fn answer(&self, ask: Ask) -> Answer {
        let answered = match ask {
            Ask::Add(made) => self.add(made).await,
            Ask::Check(made) => self.check(made).await,
            Ask::Del(made) => self.tell(Request::Release(made.container_id)).await,
            Ask::Gc { valid } => {
                let valid = valid.into_iter().collect();
                self.tell(Request::Keep(valid)).await
            }
            Ask::Status => self.status(),
        };
        answered.map_or_else(|answer| answer, |()| Answer::Done)
    }

    async fn add(&self, made: Made) -> Answered {
        let pod = named(&made)?;
        let mut workload = self.find(pod).await?;
        let name = workload.name.clone();
        workload.netns = Some(namespace(&name, &made)?);
        let id = workload.id.clone();
        let container_id = made.container_id;
        let sandbox = Box::new(Sandbox {
            container_id: container_id.clone(),
            workload,
        });
        let hold = |reply| Request::Hold { sandbox, reply };
        let answer = self.ask(&name, &id, hold).await;
        match &answer {
            Ok(()) => info!(workload = %id, sandbox = container_id, "attached before its start"),
            Err(answer) => {
                warn!(workload = %id, sandbox = container_id, ?answer, "it does not start");
                self.tell(Request::Release(container_id)).await?;
            }
        }
        answer
    }

    async fn check(&self, made: Made) -> Answered {
        // Who has started once is known.
        let workload = self.look_up(named(&made)?, self.limits.answer).await?;
        let id = &workload.id;
        let check = |reply| Request::Check {
            id: id.clone(),
            reply,
        };
        self.ask(&workload.name, id, check).await
    }

    /// Whether a pod can be attached: whether anything could be, by now.
    fn status(&self) -> Answered {
        let told = self.board.read();
        let ready = told.health().and_then(|()| told.readiness());
        ready.map_err(|reason| failed(format!("redirect-agent: {reason}"), true))
    }

    /// The pod that a sandbox is for; asked for until there is an answer or the time is up.
    async fn find(&self, pod: &PodRef) -> Result<Workload, Answer> {
        let Limits {
            find,
            answer,
            pause,
            ..
        } = self.limits;
        let end = Instant::now() + find;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let found = self.look_up(pod, answer.min(left)).await;
            let Err(Answer::Failed {
                reason,
                again: true,
            }) = &found
            else {
                return found;
            };
            // Less time than it would have waited for is not enough for an answer.
            if Instant::now() + pause * 2 > end {
                return found;
            }
            debug!("asked again: {reason}");
            sleep_until(Instant::now() + pause).await;
        }
    }

    /// The pod that a sandbox is for, as its source describes it, if the API server answers in time.
    async fn look_up(&self, pod: &PodRef, limit: Duration) -> Result<Workload, Answer> {
        let PodRef {
            namespace,
            name,
            uid,
        } = pod;
        let unknown = |why: &str| failed(format!("pod {namespace}/{name}: {why}"), true);
        let asked = self.pods.find(namespace, name, uid.as_deref(), limit);
        match Box::pin(asked).await {
            Ok(Found::Ours(workload)) => match &workload.policy {
                Ok(_) => Ok(*workload),
                Err(problem) => Err(failed(problem.clone(), false)),
            },
            Ok(Found::NotOurs(reason)) => Err(Answer::NotOurs { reason }),
            Ok(Found::Another(other)) => {
                let uid = uid.as_deref().unwrap_or_default();
                let reason = format!(
                    "pod {namespace}/{name}: by now it is another one, {other}, and the sandbox is for {uid}"
                );
                Err(failed(reason, false))
            }
            Ok(Found::Nothing) => Err(unknown("the API server knows no such pod")),
            Err(why) => Err(unknown(&format!("the API server cannot be asked: {why}"))),
        }
    }

    /// Has something done, and waits for what the loop says of the workload.
    async fn ask(
        &self,
        name: &str,
        id: &WorkloadId,
        request: impl FnOnce(oneshot::Sender<Verdict>) -> Request,
    ) -> Answered {
        let (reply, replied) = oneshot::channel();
        let asked = async {
            self.tell(request(reply)).await?;
            replied.await.map_err(|_gone| stopping())
        };
        // Also while there are more questions than can wait.
        let Ok(verdict) = timeout(self.limits.attach, asked).await else {
            return Err(failed(
                format!("pod {name}: {}", self.what_is_waited_for(id)),
                true,
            ));
        };
        settled(name, verdict?)
    }

    /// Has something done.
    async fn tell(&self, request: Request) -> Answered {
        let told = self.requests.send(request).await;
        told.map_err(|_gone| stopping())
    }

    /// Why a workload is not attached after so long.
    fn what_is_waited_for(&self, id: &WorkloadId) -> String {
        let told = self.board.read();
        let limit = self.limits.attach.as_secs_f64();
        let status = told.workloads.iter().find(|status| status.id == *id);
        let why = status
            .and_then(|status| status.detail.clone())
            .or_else(|| told.problem())
            .unwrap_or_else(|| "its turn has not come".to_owned());
        format!("not attached within {limit} s: {why}")
    }
}

/// The pod of a question that needs one.
fn named(made: &Made) -> Result<&PodRef, Answer> {
    made.pod
        .as_ref()
        .ok_or_else(|| failed("the question names no pod".to_owned(), false))
}

/// The namespace of a sandbox. It cannot be the node's: a pod that is in that one is not ours.
fn namespace(pod: &str, made: &Made) -> Result<NetnsRef, Answer> {
    let wrong = |why| failed(format!("pod {pod}: {why}"), false);
    let path = made.netns.as_ref();
    let path = path.ok_or_else(|| wrong("the question names no network namespace".to_owned()))?;
    let name = NetnsRef::Path(path.clone());
    let opened = name.open();
    let opened = opened.map_err(|error| {
        wrong(format!(
            "{error:#} (the agent has to see the node's namespaces, at the same path)"
        ))
    })?;
    // The second one is another only if the agent is a pod with a network of its own.
    let node = [NetnsRef::Pid(1), NetnsRef::Own].map(|node| node.open().ok());
    if node.iter().flatten().any(|node| node.id() == opened.id()) {
        return Err(wrong(format!(
            "\"{}\" is the node's own network namespace",
            path.display()
        )));
    }
    Ok(name)
}

fn settled(pod: &str, verdict: Verdict) -> Answered {
    let Some(WorkloadStatus { state, detail, .. }) = verdict else {
        return Err(failed(format!("pod {pod}: it is not described"), true));
    };
    let detail = detail.unwrap_or_default();
    match state {
        State::Attached => Ok(()),
        // It begins with the pod already.
        State::Refused => Err(failed(detail, false)),
        State::Waiting | State::Failed => Err(failed(format!("pod {pod}: {detail}"), true)),
    }
}

fn stopping() -> Answer {
    failed("redirect-agent is stopping".to_owned(), true)
}
