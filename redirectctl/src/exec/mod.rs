//! Running one command redirected, in a cgroup of its own, and leaving nothing behind.
//!
//! Depends on `node`, `config` and `sys`. Used by `cli`.

mod forwarder;
mod run;
mod sandbox;
mod signals;

pub use forwarder::Sidecar;
pub use run::{Ended, run};
pub use sandbox::ExecCgroup;
