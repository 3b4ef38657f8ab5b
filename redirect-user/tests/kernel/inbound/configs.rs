//! Configurations that redirect inbound connections.

use redirect_user::config::{Inbound, InboundMode, InboundPorts, PortRange, RedirectConfig};

/// Redirects every inbound port except the proxy's own and one other, as for a sidecar.
pub(crate) fn every_port() -> RedirectConfig {
    RedirectConfig {
        inbound: Inbound {
            include_ports: InboundPorts::Any,
            exclude_ports: [15020, 15021, 15090, 5555].map(PortRange::single).to_vec(),
            ..Inbound::default()
        },
        ..RedirectConfig::default()
    }
}

/// Redirects a list of inbound ports, the tunnel port among them. The excluded port has an effect only beside "every
/// port".
pub(super) fn some_ports() -> RedirectConfig {
    RedirectConfig {
        inbound: Inbound {
            include_ports: InboundPorts::List([8080, 9999, 15008].map(PortRange::single).to_vec()),
            exclude_ports: vec![PortRange::single(9999)],
            ..Inbound::default()
        },
        ..RedirectConfig::default()
    }
}

/// Changes a configuration to TPROXY.
pub(super) fn tproxy(config: RedirectConfig) -> RedirectConfig {
    let inbound = Inbound {
        mode: InboundMode::Tproxy,
        ..config.inbound
    };
    RedirectConfig { inbound, ..config }
}
