//! The pods of a node, as the Kubernetes API describes them.

mod annotation;
mod before_proxy;
mod client;
mod events;
mod injection;
mod lookup;
mod mesh;
mod pod_id;
mod sidecar;
mod source;
mod watch;

pub use self::{
    client::client,
    lookup::{Found, Lookup},
    mesh::Mesh,
    source::{KubeSource, NAME, Settings},
    watch::Patience,
};
