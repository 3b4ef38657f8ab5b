//! A small transparent TCP forwarder, for first steps without Envoy.
//!
//! The forwarder accepts redirected connections, reads the original destination from the kernel, and forwards each
//! connection there: always, as in Istio's mode `ALLOW_ANY`, or only to registered destinations, as in `REGISTRY_ONLY`.
//! The forwarder must run as the proxy's user. Otherwise its own connections come back; it recognises and closes them.

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
