//! One command with redirection, in a cgroup of its own that is removed afterwards.

mod cgroup;
mod forwarder;
mod run;
mod signals;

pub use cgroup::ExecCgroup;
pub use forwarder::ForwarderOptions;
pub use run::{CommandResult, run};
