//! The report about an outcome, and its Event.

use k8s_openapi::{
    api::events::v1::Event,
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};

use crate::{
    outcome::{Outcome, State},
    plan::Action,
    source::kube::pod_id::PodId,
};

/// Name of the agent in `reportingController`.
const CONTROLLER: &str = "redirect-agent";
/// Length limit of the API for the text of an Event, in bytes.
const LONGEST_NOTE: usize = 1024;
/// Length limit for the pod's name in that of an Event, which has a suffix: both may have 253 bytes.
const LONGEST_NAME: usize = 230;

/// A report about a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Report {
    /// Whether the Event is a warning.
    is_warning: bool,
    reason: &'static str,
    note: String,
}

impl Report {
    /// The report about an outcome, if that is worth an Event.
    pub(super) fn of(outcome: &Outcome) -> Option<Self> {
        let detail = || outcome.detail.clone().unwrap_or_default();
        let good = |reason, note: &str| {
            let note = outcome.detail.as_deref().unwrap_or(note);
            let remarks = outcome.remarks.iter().map(String::as_str);
            let notes: Vec<_> = [note].into_iter().chain(remarks).collect();
            Self {
                is_warning: false,
                reason,
                note: notes.join("; "),
            }
        };
        let bad = |reason, note| Self {
            is_warning: true,
            reason,
            note,
        };
        match outcome.state {
            State::Attached => match outcome.action? {
                Action::Attach | Action::Move | Action::TakeOver => Some(good(
                    "TrafficRedirected",
                    "connections are redirected to the sidecar",
                )),
                Action::Update => Some(good(
                    "TrafficRedirectionChanged",
                    "connections are redirected by the pod's current settings",
                )),
                Action::Repair => Some(bad(
                    "TrafficRedirectionRepaired",
                    format!("programs were missing and are attached again: {}", detail()),
                )),
                Action::Detach | Action::Keep | Action::Wait | Action::Refuse | Action::Hold => {
                    None
                }
            },
            State::Refused => Some(bad(
                "TrafficRedirectionRefused",
                format!("{}; the pod's redirection stays as it was", detail()),
            )),
            State::Failed => Some(bad(
                "TrafficRedirectionFailed",
                format!("{}; the agent retries", detail()),
            )),
            State::Waiting => None,
        }
    }

    /// The report about the new warnings of an outcome, if there are any.
    pub(super) fn of_warnings(outcome: &Outcome) -> Option<Self> {
        let has_warnings = !outcome.warnings.is_empty();
        has_warnings.then(|| Self {
            is_warning: true,
            reason: "TrafficRedirectionWarning",
            note: outcome.warnings.join("; "),
        })
    }

    /// The report as an Event about a pod, by the agent of a node.
    pub(super) fn event(&self, pod: &PodId, node: &str) -> Event {
        let now = Timestamp::now();
        let kind = if self.is_warning { "Warning" } else { "Normal" };
        Event {
            metadata: ObjectMeta {
                namespace: Some(pod.namespace.clone()),
                name: Some(format!(
                    "{}.{:x}",
                    cut(&pod.name, LONGEST_NAME),
                    now.as_nanosecond()
                )),
                ..ObjectMeta::default()
            },
            action: Some("Redirect".to_owned()),
            event_time: Some(MicroTime(now)),
            note: Some(cut(&self.note, LONGEST_NOTE).to_owned()),
            reason: Some(self.reason.to_owned()),
            regarding: Some(pod.reference()),
            reporting_controller: Some(CONTROLLER.to_owned()),
            reporting_instance: Some(node.to_owned()),
            type_: Some(kind.to_owned()),
            ..Event::default()
        }
    }
}

/// The longest prefix of at most so many bytes.
fn cut(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or_default()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::WorkloadId;

    #[test]
    fn a_pod_in_shadow_mode_is_not_reported_as_redirected() {
        let attached = |detail: Option<&str>| Outcome {
            id: WorkloadId {
                source: "kube",
                key: "shop/web/5f6c".to_owned(),
            },
            state: State::Attached,
            detail: detail.map(str::to_owned),
            action: Some(Action::Attach),
            remarks: Vec::new(),
            warnings: Vec::new(),
        };
        let note = |detail| Report::of(&attached(detail)).unwrap().note;
        assert_eq!(note(None), "connections are redirected to the sidecar");
        assert_eq!(note(Some("shadow mode")), "shadow mode");
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(cut("short", 10), "short");
        assert_eq!(cut("short", 2), "sh");
        assert_eq!(cut("äöü", 3), "ä");
    }
}
