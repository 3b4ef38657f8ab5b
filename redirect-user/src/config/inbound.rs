//! The inbound connections that are redirected.

use serde::{Serialize, Serializer};

use super::ports::PortRange;

/// The inbound connections that are redirected, and the mode.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Inbound {
    /// The mode of redirection (`-m`).
    pub mode: InboundMode,
    /// The ports that are redirected (`-b`).
    pub include_ports: InboundPorts,
    /// The ports that are not redirected, if `include_ports` is `*` (`-d`).
    pub exclude_ports: Vec<PortRange>,
}

impl Inbound {
    /// Whether no inbound connection is redirected.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.include_ports.is_none()
    }

    /// Whether every inbound port is redirected that is not excluded.
    #[must_use]
    pub const fn is_any(&self) -> bool {
        matches!(self.include_ports, InboundPorts::Any)
    }
}

/// The mode in which inbound connections are redirected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum InboundMode {
    /// The proxy sees its own port as the connection's local port, and asks for the original
    /// destination.
    #[default]
    Redirect,
    /// The proxy sees the original destination as the connection's local address, and the tunnel
    /// port is redirected like any other port.
    Tproxy,
}

/// The inbound ports that are redirected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InboundPorts {
    /// All ports: `*`.
    Any,
    /// The ports of a list, none if the list is empty.
    List(Vec<PortRange>),
}

impl InboundPorts {
    /// Whether no inbound port is redirected.
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
    /// Writes `"*"`, or a list of ports.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Any => serializer.serialize_str("*"),
            Self::List(ports) => ports.serialize(serializer),
        }
    }
}
