//! CNI requests that wait for a pass.

use tokio::sync::oneshot;

use crate::{
    cni::LoopRequest,
    desired::Desired,
    outcome::{State, WorkloadStatus},
    workload::WorkloadId,
};

/// The requests that wait.
#[derive(Debug, Default)]
pub(super) struct PendingRequests(Vec<PendingRequest>);

#[derive(Debug)]
struct PendingRequest {
    workload: WorkloadId,
    /// Whether the reply waits until the workload's cgroup exists.
    waits_for_cgroup: bool,
    reply: oneshot::Sender<Option<WorkloadStatus>>,
}

impl PendingRequests {
    /// Accepts a request. Its reply comes after a pass.
    pub(super) fn accept(&mut self, request: LoopRequest, desired: &mut Desired) {
        match request {
            LoopRequest::Add { sandbox, reply } => {
                self.0.push(PendingRequest {
                    workload: sandbox.workload.id.clone(),
                    waits_for_cgroup: true,
                    reply,
                });
                desired.add_sandbox(*sandbox);
            }
            LoopRequest::Check { id, reply } => self.0.push(PendingRequest {
                workload: id,
                waits_for_cgroup: false,
                reply,
            }),
            LoopRequest::Del(gone) => desired.retain_sandboxes(|sandbox| sandbox != gone),
            LoopRequest::Gc(valid) => desired.retain_sandboxes(|sandbox| valid.contains(sandbox)),
        }
    }

    /// Replies to the requests that a pass has settled, and drops those whose caller has gone.
    pub(super) fn resolve(&mut self, workloads: &[WorkloadStatus]) {
        for pending in std::mem::take(&mut self.0) {
            let status = workloads
                .iter()
                .find(|status| status.id == pending.workload);
            let is_settled = status.is_some_and(|status| status.state != State::Waiting);
            if is_settled || !pending.waits_for_cgroup {
                // An error means that the caller has gone.
                drop(pending.reply.send(status.cloned()));
            } else if !pending.reply.is_closed() {
                self.0.push(pending);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot::error::TryRecvError;

    use super::*;

    fn status(state: State) -> WorkloadStatus {
        WorkloadStatus {
            id: id(),
            name: "a".to_owned(),
            cgroup: None,
            state,
            detail: None,
        }
    }

    fn id() -> WorkloadId {
        WorkloadId {
            source: "kube",
            key: "a".to_owned(),
        }
    }

    fn waiting_for(
        pending: &mut PendingRequests,
        waits_for_cgroup: bool,
    ) -> oneshot::Receiver<Option<WorkloadStatus>> {
        let (reply, replied) = oneshot::channel();
        pending.0.push(PendingRequest {
            workload: id(),
            waits_for_cgroup,
            reply,
        });
        replied
    }

    #[test]
    fn an_add_waits_for_the_cgroup_and_a_check_does_not() {
        let mut pending = PendingRequests::default();
        let mut waiting = waiting_for(&mut pending, true);
        for workloads in [vec![], vec![status(State::Waiting)]] {
            let mut immediate = waiting_for(&mut pending, false);
            pending.resolve(&workloads);
            assert_eq!(immediate.try_recv(), Ok(workloads.first().cloned()));
            assert_eq!(waiting.try_recv(), Err(TryRecvError::Empty));
        }
        pending.resolve(&[status(State::Failed)]);
        assert_eq!(waiting.try_recv(), Ok(Some(status(State::Failed))));
        let gone = waiting_for(&mut pending, true);
        drop(gone);
        pending.resolve(&[]);
        assert!(pending.0.is_empty());
    }
}
