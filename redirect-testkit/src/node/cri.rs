// SPDX-License-Identifier: MIT OR Apache-2.0
//! A client of the container runtime interface (CRI), as a kubelet is one.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, anyhow};
use prost::Message;
use tokio::runtime::{self, Runtime};
use tonic::{
    Request, Response,
    client::Grpc,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

use super::messages::{
    ContainerConfig, ContainerId, CreateContainerRequest, Empty, ListPodSandboxResponse,
    PodSandboxConfig, PodSandboxId, RunPodSandboxRequest, StatusRequest, StatusResponse,
    StopContainerRequest,
};

/// The time limit of a call: longer than a kubelet's, because a CNI plugin may take half a minute.
const LIMIT: Duration = Duration::from_mins(2);

/// A connection to a container runtime. Any number of threads may use it.
#[derive(Debug)]
pub(super) struct Cri {
    runtime: Runtime,
    channel: Channel,
}

impl Cri {
    pub(super) fn connect(socket: &Path) -> Result<Self> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let endpoint = Endpoint::from_shared(format!("unix:{}", socket.display()))?.timeout(LIMIT);
        let channel = runtime.block_on(endpoint.connect())?;
        Ok(Self { runtime, channel })
    }

    /// Whether the runtime can make containers and networks.
    pub(super) fn is_ready(&self) -> Result<bool> {
        let status = self.status()?.status.unwrap_or_default();
        let conditions = &status.conditions;
        Ok(!conditions.is_empty() && conditions.iter().all(|condition| condition.status))
    }

    /// The network configuration, as the runtime shows it.
    pub(super) fn networks(&self) -> Result<String> {
        Ok(self.status()?.info.remove("cniconfig").unwrap_or_default())
    }

    fn status(&self) -> Result<StatusResponse> {
        self.ask("Status", StatusRequest { verbose: true })
    }

    pub(super) fn run_sandbox(&self, config: PodSandboxConfig) -> Result<String> {
        let config = Some(config);
        let made: PodSandboxId = self.ask("RunPodSandbox", RunPodSandboxRequest { config })?;
        Ok(made.id)
    }

    /// Stops and removes a sandbox: the runtime ends its containers, calls the CNI plugins, and removes the rest.
    pub(super) fn remove_sandbox(&self, id: &str) -> Result<()> {
        for method in ["StopPodSandbox", "RemovePodSandbox"] {
            let id = id.to_owned();
            let Empty {} = self.ask(method, PodSandboxId { id })?;
        }
        Ok(())
    }

    pub(super) fn sandboxes(&self) -> Result<Vec<String>> {
        let listed: ListPodSandboxResponse = self.ask("ListPodSandbox", Empty {})?;
        Ok(listed.items.into_iter().map(|sandbox| sandbox.id).collect())
    }

    pub(super) fn start_container(
        &self,
        sandbox: &str,
        of: PodSandboxConfig,
        config: ContainerConfig,
    ) -> Result<String> {
        let request = CreateContainerRequest {
            pod_sandbox_id: sandbox.to_owned(),
            config: Some(config),
            sandbox_config: Some(of),
        };
        let made: ContainerId = self.ask("CreateContainer", request)?;
        let Empty {} = self.ask("StartContainer", made.clone())?;
        Ok(made.id)
    }

    /// Kills a container with SIGKILL.
    pub(super) fn kill_container(&self, id: &str) -> Result<()> {
        let request = StopContainerRequest {
            container_id: id.to_owned(),
            timeout: 0,
        };
        let Empty {} = self.ask("StopContainer", request)?;
        Ok(())
    }

    fn ask<Q, A>(&self, method: &str, question: Q) -> Result<A>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let path = format!("/runtime.v1.RuntimeService/{method}").parse()?;
        let answer = self.runtime.block_on(async {
            let mut grpc = Grpc::new(self.channel.clone());
            grpc.ready().await.map_err(|error| anyhow!("{error}"))?;
            let answer = grpc
                .unary(Request::new(question), path, ProstCodec::default())
                .await;
            answer.map_err(|status| anyhow!("{}", status.message()))
        });
        answer
            .map(Response::into_inner)
            .with_context(|| format!("call {method} of the container runtime"))
    }
}
