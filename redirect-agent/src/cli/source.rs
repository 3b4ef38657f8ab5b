//! The options that choose the source of workloads.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use redirect_user::{config::NameFile, console::Env, sys::cgroup};

use crate::source::{
    FileSource, KubeSource, OpenedSource, Source, SourceEvent,
    kube::{self, EventReporter, Mesh, PodLookup, Settings, Timeouts},
};

/// Variable with the node's name, if the spec of the agent's pod sets it.
const NODE_NAME: &str = "NODE_NAME";

/// The options that choose the source of workloads.
#[derive(Args, Clone, Debug)]
pub(super) struct SourceArg {
    /// Source of the workloads
    #[arg(long, value_name = "SOURCE", default_value = "file")]
    source: Kind,
    /// For `file`: folder with a file for each workload: *.yaml, *.yml and *.json
    #[arg(
        long,
        value_name = "DIR",
        default_value = "/etc/redirect-agent/workloads"
    )]
    folder: PathBuf,
    /// For `kube`: node whose pods are redirected [default: `$NODE_NAME`]
    #[arg(long, value_name = "NAME")]
    node_name: Option<String>,
    /// For `kube`: kubeconfig of the API server [default: in-cluster configuration]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// For `kube`: file with defaults for pods: `args` (options of istio-iptables), `excludeNamespaces`,
    /// `beforeProxy` and `shadow` [default: those of Istio's CNI plugin, and kube-system excluded]
    #[arg(long, value_name = "FILE")]
    mesh: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// The files of a folder
    File,
    /// The pods of one node, from the Kubernetes API
    Kube,
}

/// The chosen source.
#[derive(Debug)]
pub(super) enum Chosen {
    File(Box<FileSource>),
    Kube(Box<KubeSource>),
}

impl SourceArg {
    /// Opens the source, in the runtime that uses it.
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
            .context("find the node's name: set --node-name, or NODE_NAME")?;
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

    /// Name of the node, from the option or the variable.
    pub(super) fn node(&self, env: &Env) -> Option<String> {
        let from_variable = || env.variables.get(NODE_NAME).map(str::to_owned);
        self.node_name.clone().or_else(from_variable)
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
