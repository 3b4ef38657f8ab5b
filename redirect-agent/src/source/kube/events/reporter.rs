//! What becomes of pods, told to whoever looks at them with `kubectl describe pod`: an Event when one
//! is attached, changed, or cannot be.

use std::{collections::BTreeMap, mem, time::Instant};

use kube::Client;
use tokio::{
    sync::{mpsc, oneshot},
    task,
};

use super::{
    budget::{BURST, Budget},
    counts::{EventCounts, Fate},
    report::Report,
    writer::{Letter, write_all},
};
use crate::{
    outcome::{Outcome, Reporter},
    source::kube::pod_id::PodId,
};

/// Writes Events, slowly enough for the API server.
#[derive(Debug)]
pub struct EventReporter {
    /// What is wrong with pods, and whether that is written.
    wrong: BTreeMap<PodId, (Report, Written)>,
    /// What is to be written.
    outbox: mpsc::Sender<Letter>,
    budget: Budget,
    counts: EventCounts,
    node: String,
}

/// Whether a report is written.
#[derive(Debug)]
enum Written {
    Yes,
    /// It is tried; this tells.
    Soon(oneshot::Receiver<bool>),
    No,
}

impl EventReporter {
    /// Writes by this client, as the agent of this node.
    pub fn new(client: Client, node: &str) -> Self {
        let (outbox, letters) = mpsc::channel(BURST as usize);
        let counts = EventCounts::default();
        task::spawn(write_all(client, letters, counts.clone()));
        Self {
            wrong: BTreeMap::new(),
            outbox,
            budget: Budget::full(Instant::now()),
            counts,
            node: node.to_owned(),
        }
    }

    /// Where it is counted what became of Events.
    pub fn counts(&self) -> EventCounts {
        self.counts.clone()
    }

    fn send(&mut self, pod: &PodId, report: &Report) -> Written {
        if !self.budget.take(Instant::now()) {
            return Written::No;
        }
        let (written, is_written) = oneshot::channel();
        let event = Box::new(report.event(pod, &self.node));
        let sent = self.outbox.try_send(Letter { event, written });
        sent.map_or(Written::No, |()| Written::Soon(is_written))
    }
}

impl Reporter for EventReporter {
    /// Reports what is new. What is wrong with a pod is tried until it is written; what is well only
    /// once, and only if there is room.
    fn report(&mut self, outcomes: &[Outcome]) {
        let mut before = mem::take(&mut self.wrong);
        for outcome in outcomes {
            let Some(pod) = PodId::of_workload(&outcome.id) else {
                continue;
            };
            let Some(report) = Report::of(outcome) else {
                continue;
            };
            if !report.is_warning {
                if matches!(self.send(&pod, &report), Written::No) {
                    self.counts.add(Fate::Dropped);
                }
                continue;
            }
            let is_same = before.get(&pod).is_some_and(|(other, _)| *other == report);
            let same = is_same.then(|| before.remove(&pod)).flatten();
            let written = match same.map_or(Written::No, |(_, written)| written.now()) {
                Written::No => self.send(&pod, &report),
                written @ (Written::Yes | Written::Soon(_)) => written,
            };
            self.wrong.insert(pod, (report, written));
        }
        // What was wrong then is not any more, or something else is.
        for (_, written) in before.into_values() {
            if matches!(written.now(), Written::No) {
                self.counts.add(Fate::Dropped);
            }
        }
    }
}

impl Written {
    fn now(self) -> Self {
        let Self::Soon(mut is_written) = self else {
            return self;
        };
        match is_written.try_recv() {
            Ok(true) => Self::Yes,
            Ok(false) | Err(oneshot::error::TryRecvError::Closed) => Self::No,
            Err(oneshot::error::TryRecvError::Empty) => Self::Soon(is_written),
        }
    }
}
