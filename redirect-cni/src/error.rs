//! Errors of the CNI specification: a code for the runtime, and text for the operator.

use std::fmt;

use serde::Serialize;

/// The error of a call, printed on standard output as JSON.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{msg}: {details}")]
pub struct CniError {
    /// Kind of the error.
    pub code: Code,
    /// The action that failed.
    pub msg: String,
    /// Cause and remedy.
    pub details: String,
}

/// The well-known error codes (CNI specification 1.1.0, "Error").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "u32")]
pub enum Code {
    /// The version of the configuration is not supported.
    IncompatibleVersion = 1,
    /// An environment variable is missing or wrong.
    InvalidEnvironment = 4,
    /// Reading or writing failed.
    Io = 5,
    /// The configuration is not JSON, or lacks the right form.
    Decoding = 6,
    /// The configuration cannot be used.
    InvalidConfig = 7,
    /// The same call may succeed later.
    TryAgainLater = 11,
    /// `STATUS`: pods cannot be added.
    NotAvailable = 50,
    /// The pod is in the mesh, and cannot be redirected (codes from 100 on are a plugin's own).
    NotRedirected = 100,
}

impl From<Code> for u32 {
    fn from(code: Code) -> Self {
        code as Self
    }
}

impl CniError {
    /// An error of this kind.
    pub fn new(code: Code, msg: impl Into<String>, details: impl fmt::Display) -> Self {
        Self {
            code,
            msg: msg.into(),
            details: format!("{details}"),
        }
    }

    /// The error as JSON, in the version that the runtime speaks.
    #[must_use]
    pub fn to_json(&self, version: &str) -> serde_json::Value {
        serde_json::json!({
            "cniVersion": version,
            "code": self.code,
            "msg": self.msg,
            "details": self.details,
        })
    }
}
