//! The plan: the steps that turn the attachments into the described ones. Pure, and the only place that
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
