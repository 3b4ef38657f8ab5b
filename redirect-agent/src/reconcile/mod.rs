//! Reconciliation: makes the attachments those of the desired state.

mod attachment_cache;
mod executor;
mod listener_checks;
mod locate;
mod location_cache;
mod netns;
mod reconciler;
mod retries;
mod step_result;

pub use self::{
    executor::upgrade,
    reconciler::{PlannedPass, Reconciler},
    step_result::{StepResult, outcomes, workload_statuses},
};
