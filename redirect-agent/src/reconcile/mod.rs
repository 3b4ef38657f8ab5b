//! Making what is attached what is wanted: look, plan, act.

mod execute;
mod locate;
mod reconciler;
mod retry;
mod sight;

pub use self::{
    execute::upgrade,
    reconciler::{Done, Outlook, Reconciler},
};
