//! What is redirected inbound.

use serde::{Serialize, Serializer};

use super::ports::PortRange;

/// What is redirected inbound.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Inbound {
    /// How (`-m`).
    pub mode: InboundMode,
    /// Ports that are redirected (`-b`).
    pub include_ports: InboundPorts,
    /// Ports that are not, if `include_ports` is `*` (`-d`).
    pub exclude_ports: Vec<PortRange>,
}

impl Inbound {
    /// Whether nothing is redirected.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.include_ports.is_none()
    }

    /// Whether every port is redirected that is not excluded.
    #[must_use]
    pub const fn is_any(&self) -> bool {
        matches!(self.include_ports, InboundPorts::Any)
    }
}

/// How inbound connections are redirected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum InboundMode {
    /// The proxy sees its own port as the connection's, and asks for the original destination.
    #[default]
    Redirect,
    /// The proxy sees the original destination as the connection's own address, and the tunnel port
    /// is redirected like any other.
    Tproxy,
}

/// Inbound ports that are redirected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InboundPorts {
    /// All of them: `*`.
    Any,
    /// These; none if the list is empty.
    List(Vec<PortRange>),
}

impl InboundPorts {
    /// Whether nothing inbound is redirected.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        match self {
            Self::Any => false,
            Self::List(ports) => ports.is_empty(),
        }
    }
}

impl Default for InboundPorts {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

impl Serialize for InboundPorts {
    /// `"*"`, or a list of ports.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Any => serializer.serialize_str("*"),
            Self::List(ports) => ports.serialize(serializer),
        }
    }
}
