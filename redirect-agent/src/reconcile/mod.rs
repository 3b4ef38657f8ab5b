//! Making what is attached what is wanted: look, plan, act.

mod attachment_cache;
mod execute;
mod locate;
mod netns;
mod reconciler;
mod retry;
mod sight;
mod step_result;

pub use self::{
    execute::upgrade,
    reconciler::{Outlook, Reconciler},
    step_result::{Done, outcomes, statuses},
};
