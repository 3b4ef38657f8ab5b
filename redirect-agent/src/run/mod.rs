//! Running: what sources say goes in, passes come out, until it is told to stop.

mod agent;
mod askers;
mod beside;
mod control_loop;
mod follow;
mod tell;

pub use self::{
    agent::{Options, run},
    control_loop::Ended,
};
