//! The chained CNI plugin: it has the node agent redirect a pod before the pod's first process exists.
//!
//! The runtime starts the plugin for each operation on a sandbox, with the call in environment variables and the
//! network's configuration on standard input ([`call`], [`config`]). The plugin decides nothing: it asks the agent
//! over a unix socket ([`protocol`], [`client`]) and passes the result of the previous plugin on ([`plugin`]).
//!
//! Versions 0.3.1 to 1.1.0 of the CNI specification are supported.

pub mod call;
pub mod client;
pub mod config;
pub mod error;
pub mod plugin;
pub mod protocol;
