//! The reporter of pods: decides which outcomes are Events, and queues them.

use std::{collections::BTreeMap, mem, time::Instant};

use kube::Client;
use tokio::{
    sync::{mpsc, oneshot},
    task,
};

use super::{
    counts::{EventCounts, EventResult},
    report::Report,
    token_bucket::{BURST, TokenBucket},
    writer::{QueuedEvent, write_all},
};
use crate::{
    outcome::{Outcome, Reporter, State},
    source::kube::pod_id::PodId,
};

/// Reports outcomes as Events of pods, slowly enough for the API server.
#[derive(Debug)]
pub struct EventReporter {
    /// The problem of each pod that is refused or failed, and the delivery of its report.
    problems: BTreeMap<PodId, (Report, Delivery)>,
    queue: mpsc::Sender<QueuedEvent>,
    bucket: TokenBucket,
    counts: EventCounts,
    node: String,
}

/// Delivery of a report to the API server.
#[derive(Debug)]
enum Delivery {
    Written,
    /// The Event is queued; the receiver tells whether it was written.
    Pending(oneshot::Receiver<bool>),
    Unwritten,
}

impl EventReporter {
    /// A reporter with this client, as the agent of this node. Must be called in a tokio runtime.
    pub fn new(client: Client, node: &str) -> Self {
        let (queue, queued) = mpsc::channel(BURST as usize);
        let counts = EventCounts::default();
        task::spawn(write_all(client, queued, counts.clone()));
        Self {
            problems: BTreeMap::new(),
            queue,
            bucket: TokenBucket::full(Instant::now()),
            counts,
            node: node.to_owned(),
        }
    }

    /// Counts of Events by result.
    pub fn counts(&self) -> EventCounts {
        self.counts.clone()
    }

    fn send(&mut self, pod: &PodId, report: &Report) -> Delivery {
        if !self.bucket.take(Instant::now()) {
            return Delivery::Unwritten;
        }
        let (written, is_written) = oneshot::channel();
        let event = Box::new(report.event(pod, &self.node));
        let sent = self.queue.try_send(QueuedEvent { event, written });
        sent.map_or(Delivery::Unwritten, |()| Delivery::Pending(is_written))
    }
}

impl Reporter for EventReporter {
    /// Sends a problem again until it is written, and other reports once, if there is room.
    fn report(&mut self, outcomes: &[Outcome]) {
        let mut before = mem::take(&mut self.problems);
        for outcome in outcomes {
            let Some(pod) = PodId::of_workload(&outcome.id) else {
                continue;
            };
            let report = Report::of(outcome);
            let has_problem = matches!(outcome.state, State::Refused | State::Failed);
            let once = report.iter().filter(|_| !has_problem).cloned();
            for report in once.chain(Report::of_warnings(outcome)) {
                if matches!(self.send(&pod, &report), Delivery::Unwritten) {
                    self.counts.add(EventResult::Dropped);
                }
            }
            let Some(report) = report.filter(|_| has_problem) else {
                continue;
            };
            let is_same = before.get(&pod).is_some_and(|(other, _)| *other == report);
            let same = is_same.then(|| before.remove(&pod)).flatten();
            let delivery = same.map_or(Delivery::Unwritten, |(_, delivery)| delivery.poll());
            let delivery = match delivery {
                Delivery::Unwritten => self.send(&pod, &report),
                delivery @ (Delivery::Written | Delivery::Pending(_)) => delivery,
            };
            self.problems.insert(pod, (report, delivery));
        }
        // The problems that are left are over, or were replaced by others.
        for (_, delivery) in before.into_values() {
            if matches!(delivery.poll(), Delivery::Unwritten) {
                self.counts.add(EventResult::Dropped);
            }
        }
    }
}

impl Delivery {
    /// The delivery by now.
    fn poll(self) -> Self {
        let Self::Pending(mut is_written) = self else {
            return self;
        };
        match is_written.try_recv() {
            Ok(true) => Self::Written,
            Ok(false) | Err(oneshot::error::TryRecvError::Closed) => Self::Unwritten,
            Err(oneshot::error::TryRecvError::Empty) => Self::Pending(is_written),
        }
    }
}
