//! What the chained CNI plugin asks: a pod is redirected before its first process exists, and its
//! start fails if that cannot be done.
//!
//! ```text
//! redirect-cni ──line──► server ──Ask──► desk ──Request──► the loop ──► its next pass
//!                                        │                                │
//!                                        └─ the pod, from the API server  └─ Verdict ──► Answer
//! ```
//!
//! The desk attaches nothing: it describes a sandbox to the loop, which does with it what it does with
//! all that its sources describe.

mod desk;
pub mod install;
mod request;
mod server;
mod socket;

pub use self::{
    desk::{Desk, Limits},
    request::{Request, Verdict},
    server::serve,
    socket::Socket,
};
