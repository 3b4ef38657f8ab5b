//! What is to be done, given what is wanted and what is attached. Pure: this is the only place that
//! decides.

mod attachments;
mod planner;
mod resolution;
mod step;
#[cfg(test)]
mod tests;

pub use self::{
    attachments::{Attached, Attachments},
    planner::plan,
    resolution::{Claim, Resolution, ResolvedWorkload, Target},
    step::{Action, Step},
};
