//! The agent's side of the CNI plugin: a pod is attached before its first process exists, and CNI ADD fails if
//! that is impossible.
//!
//! ```text
//! redirect-cni ──line──► server ──Operation──► CniHandler ──LoopRequest──► ControlLoop ──► its next pass
//!                                                 │                                        │
//!                                                 └─ PodLookup: the API server             └─ WorkloadStatus ──► Response
//! ```
//!
//! The handler attaches nothing: it adds the sandbox to the desired state, and the control loop treats that like
//! any description of the source.

mod handler;
pub mod install;
mod request;
mod server;
mod socket;

pub use self::{
    handler::{CniHandler, CniTimeouts},
    request::LoopRequest,
    server::serve,
    socket::Socket,
};
