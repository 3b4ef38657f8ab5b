//! Errors as the CNI specification has them: a number for the runtime, words for the operator.

use std::fmt;

use serde::Serialize;

/// What the runtime is told when a call fails: printed on standard output as JSON.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{msg}: {details}")]
pub struct CniError {
    /// What kind of error it is.
    pub code: Code,
    /// What failed.
    pub msg: String,
    /// Why, and what to do about it.
    pub details: String,
}

/// The well-known error codes (CNI specification 1.1.0, "Error").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "u32")]
pub enum Code {
    /// The version of the configuration is not known.
    IncompatibleVersion = 1,
    /// An environment variable is missing or wrong.
    InvalidEnvironment = 4,
    /// Something could not be read or written.
    Io = 5,
    /// The configuration is no JSON, or not of the form it should have.
    Decoding = 6,
    /// The configuration cannot be used.
    InvalidConfig = 7,
    /// The same call may succeed later.
    TryAgainLater = 11,
    /// `STATUS`: no pod can be added.
    NotAvailable = 50,
    /// The pod is in the mesh and cannot be redirected (codes from 100 on are a plugin's own).
    NotRedirected = 100,
}

impl From<Code> for u32 {
    fn from(code: Code) -> Self {
        code as Self
    }
}

impl CniError {
    /// An error of a kind.
    pub fn new(code: Code, msg: impl Into<String>, details: impl fmt::Display) -> Self {
        Self {
            code,
            msg: msg.into(),
            details: format!("{details}"),
        }
    }

    /// The JSON for the runtime, in the version that it speaks.
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
