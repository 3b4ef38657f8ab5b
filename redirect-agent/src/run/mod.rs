//! Running: what sources say goes in, passes come out, until it is told to stop.

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
