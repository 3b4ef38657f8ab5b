//! What is to be done, given what is wanted and what is attached. Pure: this is the only place that
//! decides.

mod planner;
#[cfg(test)]
mod tests;

pub use self::planner::{Action, Attached, Attachments, Holds, Stand, Step, Target, Wanted, plan};
