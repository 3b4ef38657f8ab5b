//! The agent and a real API server, with the roles of `deploy/redirect-agent.yaml`.

pub(crate) mod api;
mod cluster;
pub(crate) mod control_plane;
mod tests;

pub(crate) use self::{
    cluster::{PODS, deploy, documents, events, word},
    tests::SOAKS,
};
