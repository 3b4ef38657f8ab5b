//! Whoever waits for a pass: the desk of the CNI plugin.

use tokio::sync::oneshot;

use crate::{
    cni::{Request, Verdict},
    desired::Desired,
    outcome::{State, WorkloadStatus},
    workload::WorkloadId,
};

/// Those who wait.
#[derive(Debug, Default)]
pub(super) struct Askers(Vec<ResolvConf>);

#[derive(Debug)]
struct ResolvConf {
    about: WorkloadId,
    /// Whether a workload that waits for its cgroup is waited for.
    is_patient: bool,
    reply: oneshot::Sender<Verdict>,
}

impl Askers {
    /// Takes in a request; the reply comes after a pass.
    pub(super) fn take_in(&mut self, request: Request, desired: &mut Desired) {
        match request {
            Request::Hold { sandbox, reply } => {
                self.0.push(ResolvConf {
                    about: sandbox.workload.id.clone(),
                    is_patient: true,
                    reply,
                });
                desired.hold(*sandbox);
            }
            Request::Check { id, reply } => self.0.push(ResolvConf {
                about: id,
                is_patient: false,
                reply,
            }),
            Request::Release(gone) => desired.release(|sandbox| sandbox != gone),
            Request::Keep(there) => desired.release(|sandbox| there.contains(sandbox)),
        }
    }

    /// Replies to those for whom a pass has settled it. Who has gone is let go.
    pub(super) fn passed(&mut self, workloads: &[WorkloadStatus]) {
        for asker in std::mem::take(&mut self.0) {
            let found = workloads.iter().find(|found| found.id == asker.about);
            let is_settled = found.is_some_and(|found| found.state != State::Waiting);
            if is_settled || !asker.is_patient {
                // Who does not wait any more does not hear it.
                drop(asker.reply.send(found.cloned()));
            } else if !asker.reply.is_closed() {
                self.0.push(asker);
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

    fn asked(askers: &mut Askers, is_patient: bool) -> oneshot::Receiver<Verdict> {
        let (reply, replied) = oneshot::channel();
        askers.0.push(ResolvConf {
            about: id(),
            is_patient,
            reply,
        });
        replied
    }

    #[test]
    fn a_sandbox_is_waited_for_and_a_check_is_not() {
        let mut askers = Askers::default();
        let mut patient = asked(&mut askers, true);
        for workloads in [vec![], vec![status(State::Waiting)]] {
            let mut hasty = asked(&mut askers, false);
            askers.passed(&workloads);
            assert_eq!(hasty.try_recv(), Ok(workloads.first().cloned()));
            assert_eq!(patient.try_recv(), Err(TryRecvError::Empty));
        }
        askers.passed(&[status(State::Failed)]);
        assert_eq!(patient.try_recv(), Ok(Some(status(State::Failed))));
        let gone = asked(&mut askers, true);
        drop(gone);
        askers.passed(&[]);
        assert!(askers.0.is_empty());
    }
}
