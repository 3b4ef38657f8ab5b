//! The node agent, as a library: it keeps the workloads that its source describes redirected as described,
//! and touches nothing else.
//!
//! ```text
//! source ──► desired ──► locate ──► plan ──► execute ──► redirect_user::node
//!  files,     desired     cgroup,    steps    one step
//!  pods       state       netns               at a time      status ──► http, log, Events
//! ```
//!
//! All state is in the kernel, below one state directory ([`state_dir`]). Attachments in it belong to the
//! agent, so a new agent continues the work of one that was killed. Attachments of other directories are
//! never looked at.
//!
//! Requests of container runtimes about single pods arrive beside the source ([`cni`]).
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
