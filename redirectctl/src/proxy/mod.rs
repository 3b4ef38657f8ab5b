//! A small transparent TCP forwarder, for trying things out without Envoy.
//!
//! It accepts what is redirected to it, asks the kernel for the original destination, and forwards
//! the connection there: always, as Istio's `ALLOW_ANY`, or only to registered destinations, as
//! `REGISTRY_ONLY`. It must run as the proxy's user, or its own connections come back to it; they
//! are recognised and closed.
//!
//! Depends on: `config` for ranges, `tokio`, `socket2`. Used by: the command line,
//! the demo.

mod connection;
mod origin;
mod own_connections;
mod record;
mod registry;
mod relay;
mod run;
mod server;
mod shared;

pub use origin::original_destination;
pub use record::{Ending, Record};
pub use registry::{Registry, RegistryError};
pub use run::{Options, ProxyError, run};
pub use server::{Proxy, listen};
pub use shared::{Mode, Totals};
