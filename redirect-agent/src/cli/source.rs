//! Which source describes the workloads.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use redirect_user::{config::NameFile, console::Env, sys::cgroup};

use crate::source::{
    FileSource, KubeSource, OpenedSource, Source, SourceEvent,
    kube::{self, EventReporter, Mesh, PodLookup, Settings, Timeouts},
};

/// The variable that a Kubernetes pod is told its node's name by, if its spec says so.
const NODE_NAME: &str = "NODE_NAME";

/// Where workloads are described.
#[derive(Args, Clone, Debug)]
pub(super) struct SourceArg {
    /// Who describes the workloads
    #[arg(long, value_name = "SOURCE", default_value = "file")]
    source: Kind,
    /// For `file`: folder of files that describe a workload each: *.yaml, *.yml and *.json
    #[arg(
        long,
        value_name = "DIR",
        default_value = "/etc/redirect-agent/workloads"
    )]
    folder: PathBuf,
    /// For `kube`: the node whose pods are redirected [default: `$NODE_NAME`]
    #[arg(long, value_name = "NAME")]
    node_name: Option<String>,
    /// For `kube`: how to reach the API server [default: as a pod of the cluster does]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// For `kube`: what pods get that say nothing: a file with `args` (options of istio-iptables),
    /// `excludeNamespaces`, `beforeProxy` and `shadow` [default: what Istio's CNI plugin takes, and
    /// kube-system]
    #[arg(long, value_name = "FILE")]
    mesh: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// A folder of files
    File,
    /// The Kubernetes API: the pods of one node
    Kube,
}

/// A source that was chosen when the program was started.
#[derive(Debug)]
pub(super) enum Chosen {
    File(Box<FileSource>),
    Kube(Box<KubeSource>),
}

impl SourceArg {
    /// Opens it, in the runtime that it is used in.
    pub(super) async fn open(self, node: Option<String>) -> Result<OpenedSource<Chosen>> {
        if self.source == Kind::File {
            let source = FileSource::new(&self.folder);
            return Ok(OpenedSource::alone(Chosen::File(Box::new(source))));
        }
        let mesh = match &self.mesh {
            Some(path) => Mesh::read(path, &NameFile::groups())?,
            None => Mesh::default(),
        };
        let node = node
            .filter(|name| !name.is_empty())
            .context("find out which node's pods to redirect (--node-name, or NODE_NAME)")?;
        let mounts = cgroup::mounts()?;
        let client = kube::client(self.kubeconfig.as_deref()).await?;
        let reporter = EventReporter::new(client.clone(), &node);
        let pods = PodLookup::new(client.clone(), mesh.clone());
        let settings = Settings {
            node,
            mesh,
            mounts,
            timeouts: Timeouts::default(),
        };
        Ok(OpenedSource {
            source: Chosen::Kube(Box::new(KubeSource::new(client, settings))),
            event_counts: reporter.counts(),
            reporter: Some(Box::new(reporter)),
            pods: Some(pods),
        })
    }

    /// The node's name, given or told.
    pub(super) fn node(&self, env: &Env) -> Option<String> {
        let told = || env.variables.get(NODE_NAME).map(str::to_owned);
        self.node_name.clone().or_else(told)
    }
}

impl Source for Chosen {
    fn name(&self) -> &'static str {
        match self {
            Self::File(source) => source.name(),
            Self::Kube(source) => source.name(),
        }
    }

    async fn next(&mut self) -> SourceEvent {
        match self {
            Self::File(source) => source.next().await,
            Self::Kube(source) => source.next().await,
        }
    }
}
