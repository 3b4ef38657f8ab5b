//! The running agent.

mod agent;
mod control_loop;
mod follow;
mod log;
mod pending_requests;
mod tasks;

pub use self::{
    agent::{Options, run},
    control_loop::Completion,
};
