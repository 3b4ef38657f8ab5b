// SPDX-License-Identifier: MIT OR Apache-2.0
//! The protocol between a test process and its workers: one line of JSON for each request and each reply.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    dial::{Dial, DialSequence},
    flood::Flood,
    flows::FlowBatch,
    http::HttpGet,
    open_connections::OpenConnections,
    process::StartProcess,
    rate::Rate,
    serve::Serve,
    udp::UdpScript,
};

/// A request to a worker.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Request {
    Dial(Dial),
    DialSequence(DialSequence),
    UdpScript(UdpScript),
    Serve(Serve),
    AcceptedCounts { server: String },
    StopServer { server: String },
    HttpGet(HttpGet),
    Flood(Flood),
    Flows(FlowBatch),
    Rate(Rate),
    OpenConnections(OpenConnections),
    ConnectionCounts,
    AskConnections { limit_ms: u64 },
    CloseConnections,
    Run { argv: Vec<String> },
    Start(StartProcess),
    Log { process: usize },
    Alive { process: usize },
    Kill { process: usize },
}

/// The reply to a request. The sender of the request knows the type of the value.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Reply {
    Done(Value),
    Failed(String),
}
