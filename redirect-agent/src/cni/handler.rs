//! The handler of CNI requests: finds the pod of a sandbox, and has the control loop attach it.

use std::{sync::Arc, time::Duration};

use redirect_cni::protocol::{Operation, PodRef, Response, SandboxRef};
use redirect_user::sys::netns::NetnsRef;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until, timeout},
};
use tracing::{debug, info, warn};

use super::request::LoopRequest;
use crate::{
    desired::Sandbox,
    outcome::{State, WorkloadStatus},
    source::kube::{LookupResult, PodLookup},
    status::StatusStore,
    workload::{Workload, WorkloadId},
};

/// Time limits of a CNI request. Finding a pod and attaching it together take less than the plugin waits, so that
/// the plugin always receives the reason of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CniTimeouts {
    /// Until the API server has the pod, with retries and the last response included.
    pub find: Duration,
    /// For one response of the API server, if that is less.
    pub response: Duration,
    /// Pause before the API server is asked again.
    pub retry_interval: Duration,
    /// Until the pod is attached.
    pub attach: Duration,
}

impl Default for CniTimeouts {
    /// The retry interval is that of Istio's CNI plugin.
    fn default() -> Self {
        Self {
            find: Duration::from_secs(18),
            response: Duration::from_secs(5),
            retry_interval: Duration::from_secs(1),
            attach: Duration::from_secs(10),
        }
    }
}

/// Handles CNI requests.
#[derive(Debug)]
pub struct CniHandler {
    pods: PodLookup,
    status_store: Arc<StatusStore>,
    requests: mpsc::Sender<LoopRequest>,
    timeouts: CniTimeouts,
}

/// `Ok` is [`Response::Done`]; an error is any other response.
type Handled = Result<(), Response>;

const fn failure(reason: String, retry: bool) -> Response {
    Response::Failed { reason, retry }
}

impl CniHandler {
    /// A handler that finds pods by `pods`, sends `requests` to the control loop, and reads `status_store`.
    pub const fn new(
        pods: PodLookup,
        status_store: Arc<StatusStore>,
        requests: mpsc::Sender<LoopRequest>,
        timeouts: CniTimeouts,
    ) -> Self {
        Self {
            pods,
            status_store,
            requests,
            timeouts,
        }
    }

    /// Carries out an operation.
    pub async fn handle(&self, operation: Operation) -> Response {
        let handled = match operation {
            Operation::Add(sandbox) => self.add(sandbox).await,
            Operation::Check(sandbox) => self.check(sandbox).await,
            Operation::Del(sandbox) => self.send(LoopRequest::Del(sandbox.container_id)).await,
            Operation::Gc { valid } => {
                let valid = valid.into_iter().collect();
                self.send(LoopRequest::Gc(valid)).await
            }
            Operation::Status => self.status(),
        };
        handled.map_or_else(|response| response, |()| Response::Done)
    }

    async fn add(&self, sandbox: SandboxRef) -> Handled {
        let container_id = sandbox.container_id.clone();
        let pod = sandbox.pod.as_ref();
        let pod = pod.map(|pod| format!("{}/{}", pod.namespace, pod.name));
        let workload = pod.unwrap_or_default();
        let handled = self.attach(sandbox).await;
        match &handled {
            Ok(()) => {
                info!(
                    workload,
                    sandbox = container_id,
                    "CNI ADD succeeded: attached before its first process"
                );
            }
            Err(Response::Failed { reason, retry }) => {
                warn!(
                    workload,
                    sandbox = container_id,
                    retry,
                    reason,
                    "CNI ADD failed"
                );
                self.send(LoopRequest::Del(container_id)).await?;
            }
            Err(Response::Skipped { reason }) => {
                debug!(workload, sandbox = container_id, reason, "CNI ADD skipped");
            }
            Err(Response::Done) => {}
        }
        handled
    }

    /// Finds the pod of a sandbox, and waits until the control loop has attached it.
    async fn attach(&self, sandbox: SandboxRef) -> Handled {
        let pod = pod_of(&sandbox)?;
        let mut workload = self.find(pod).await?;
        let name = workload.name.clone();
        workload.netns = Some(netns_of(&name, &sandbox)?);
        let id = workload.id.clone();
        let sandbox = Box::new(Sandbox {
            container_id: sandbox.container_id,
            workload,
        });
        let add = |reply| LoopRequest::Add { sandbox, reply };
        self.request(&name, &id, add).await
    }

    async fn check(&self, sandbox: SandboxRef) -> Handled {
        // A pod that was started once is known to the API server: no retries.
        let workload = self
            .look_up(pod_of(&sandbox)?, self.timeouts.response)
            .await?;
        let id = &workload.id;
        let check = |reply| LoopRequest::Check {
            id: id.clone(),
            reply,
        };
        self.request(&workload.name, id, check).await
    }

    /// Whether pods can be attached by now.
    fn status(&self) -> Handled {
        let snapshot = self.status_store.snapshot();
        let ready = snapshot.health().and_then(|()| snapshot.readiness());
        ready.map_err(|reason| failure(format!("redirect-agent: {reason}"), true))
    }

    /// Finds the pod of a sandbox; retries until the API server has the pod or the time is up.
    async fn find(&self, pod: &PodRef) -> Result<Workload, Response> {
        let CniTimeouts {
            find,
            response,
            retry_interval,
            ..
        } = self.timeouts;
        let end = Instant::now() + find;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let found = self.look_up(pod, response.min(left)).await;
            let Err(Response::Failed {
                reason,
                retry: true,
            }) = &found
            else {
                return found;
            };
            // After another pause, less time than the pause itself would be left for a response.
            if Instant::now() + retry_interval * 2 > end {
                return found;
            }
            debug!("retrying the lookup of a pod: {reason}");
            sleep_until(Instant::now() + retry_interval).await;
        }
    }

    /// Looks the pod of a sandbox up once, and translates it to a workload.
    async fn look_up(&self, pod: &PodRef, limit: Duration) -> Result<Workload, Response> {
        let PodRef {
            namespace,
            name,
            uid,
        } = pod;
        let unknown = |why: &str| failure(format!("pod {namespace}/{name}: {why}"), true);
        let lookup = self.pods.find(namespace, name, uid.as_deref(), limit);
        match Box::pin(lookup).await {
            Ok(LookupResult::Managed(workload)) => match &workload.policy {
                Ok(_) => Ok(*workload),
                Err(problem) => Err(failure(problem.clone(), false)),
            },
            Ok(LookupResult::Skipped(reason)) => Err(Response::Skipped { reason }),
            Ok(LookupResult::UidMismatch(other)) => {
                let uid = uid.as_deref().unwrap_or_default();
                let reason = format!(
                    "pod {namespace}/{name}: its uid is {other}, and the sandbox is for {uid}"
                );
                Err(failure(reason, false))
            }
            Ok(LookupResult::NotFound) => Err(unknown("the API server has no such pod")),
            Err(why) => Err(unknown(&format!("the API server is unavailable: {why}"))),
        }
    }

    /// Sends a request to the control loop, and waits for its reply about the workload.
    async fn request(
        &self,
        name: &str,
        id: &WorkloadId,
        request: impl FnOnce(oneshot::Sender<Option<WorkloadStatus>>) -> LoopRequest,
    ) -> Handled {
        let (reply, replied) = oneshot::channel();
        let exchange = async {
            self.send(request(reply)).await?;
            replied.await.map_err(|_gone| stopping())
        };
        // The limit includes the time that a full queue takes.
        let Ok(status) = timeout(self.timeouts.attach, exchange).await else {
            return Err(failure(
                format!("pod {name}: {}", self.reason_for_delay(id)),
                true,
            ));
        };
        handled(name, status?)
    }

    /// Sends a request to the control loop.
    async fn send(&self, request: LoopRequest) -> Handled {
        let sent = self.requests.send(request).await;
        sent.map_err(|_gone| stopping())
    }

    /// Why a workload is not attached in time.
    fn reason_for_delay(&self, id: &WorkloadId) -> String {
        let snapshot = self.status_store.snapshot();
        let limit = self.timeouts.attach.as_secs_f64();
        let status = snapshot.workloads.iter().find(|status| status.id == *id);
        let why = status
            .and_then(|status| status.detail.clone())
            .or_else(|| snapshot.problem())
            .unwrap_or_else(|| "no reconcile has finished yet".to_owned());
        format!("not attached within {limit} s: {why}")
    }
}

/// The pod of a sandbox, in an operation that needs one.
fn pod_of(sandbox: &SandboxRef) -> Result<&PodRef, Response> {
    sandbox
        .pod
        .as_ref()
        .ok_or_else(|| failure("the request names no pod".to_owned(), false))
}

/// The network namespace of a sandbox. The node's is refused: pods in that one are never managed.
fn netns_of(pod: &str, sandbox: &SandboxRef) -> Result<NetnsRef, Response> {
    let wrong = |why| failure(format!("pod {pod}: {why}"), false);
    let path = sandbox.netns.as_ref();
    let path = path.ok_or_else(|| wrong("the request names no network namespace".to_owned()))?;
    let name = NetnsRef::Path(path.clone());
    let opened = name.open();
    let opened = opened.map_err(|error| {
        wrong(format!(
            "{error:#} (the agent has to see the node's namespaces, at the same path)"
        ))
    })?;
    // The agent's own namespace differs from the node's only if the agent is a pod with a network of its own.
    let node = [NetnsRef::Pid(1), NetnsRef::Own].map(|node| node.open().ok());
    if node.iter().flatten().any(|node| node.id() == opened.id()) {
        return Err(wrong(format!(
            "\"{}\" is the node's own network namespace",
            path.display()
        )));
    }
    Ok(name)
}

fn handled(pod: &str, status: Option<WorkloadStatus>) -> Handled {
    let Some(WorkloadStatus { state, detail, .. }) = status else {
        return Err(failure(format!("pod {pod}: no source describes it"), true));
    };
    let detail = detail.unwrap_or_default();
    match state {
        State::Attached => Ok(()),
        // The detail of a refusal begins with the pod already.
        State::Refused => Err(failure(detail, false)),
        State::Waiting | State::Failed => Err(failure(format!("pod {pod}: {detail}"), true)),
    }
}

fn stopping() -> Response {
    failure("redirect-agent is stopping".to_owned(), true)
}
