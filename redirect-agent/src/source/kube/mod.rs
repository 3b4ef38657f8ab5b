//! The source of pods: the Kubernetes API, as the agent of one node uses it.

mod annotation;
mod before_proxy;
mod client;
mod events;
mod failure;
mod injection;
mod lookup;
mod mesh;
mod pod_id;
mod sidecar;
mod source;
mod translate;
mod watch;

pub use self::{
    client::client,
    events::{EventCounts, EventReporter, EventResult},
    lookup::{LookupResult, PodLookup},
    mesh::Mesh,
    source::{KubeSource, Settings},
    watch::Timeouts,
};
