//! Making what is attached what is wanted: look, plan, act.

mod attachment_cache;
mod executor;
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
