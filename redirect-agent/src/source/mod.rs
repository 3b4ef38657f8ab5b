//! The sources of workloads.

mod contract;
pub mod file;
pub mod kube;
mod opened;
mod options;

pub use self::{
    contract::{Source, SourceEvent},
    file::FileSource,
    kube::KubeSource,
    opened::OpenedSource,
};
