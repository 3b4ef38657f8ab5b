//! The node agent, as a library: it keeps every workload that its sources describe redirected as
//! described, and nothing else.
//!
//! ```text
//! source ──► desired ──► locate ──► plan ──► execute ──► redirect_user::node
//!  files,      what        where     what      doing it
//!  pods        is wanted   it is     to do                 status ──► http, log, Events
//! ```
//!
//! All state is in the kernel, below one owner folder ([`state_dir`]). What is attached there is the
//! agent's, so that one that was killed finds its work again; what is attached elsewhere is
//! somebody else's, and is never looked at.
//!
//! What a container runtime knows of a pod, and asks about it, comes in beside the sources ([`cni`]).
//!
//! [`plan()`] decides and is pure; [`reconcile`] acts.

mod accept;
pub mod cgroup_ref;
pub mod cli;
pub mod cni;
pub mod desired;
pub mod http;
pub mod kubepods;
pub mod metrics;
pub mod outcome;
pub mod plan;
pub mod reconcile;
pub mod run;
pub mod source;
pub mod state_dir;
pub mod status;
pub mod workload;

pub use plan::plan;
