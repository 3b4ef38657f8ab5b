//! The console of every program: its arguments and environment, and the two formats of a result.
//!
//! Depends on `config` for the environment's types. Used by redirectctl and redirect-agent.

mod env;
mod output;

pub use env::Env;
pub use output::{Format, path, table};
