//! The two families, whose rules differ in a few addresses.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use redirect_user::config::RedirectConfig;

/// The IP version of rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `iptables`.
    V4,
    /// `ip6tables`.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The number of the version.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::V4 => 4,
            Self::V6 => 6,
        }
    }

    /// The range of all addresses.
    pub(crate) fn every(self) -> IpNet {
        match self {
            Self::V4 => Ipv4Net::default().into(),
            Self::V6 => Ipv6Net::default().into(),
        }
    }

    /// The range that counts as loopback.
    pub(super) fn loopback(self, config: &RedirectConfig) -> String {
        match self {
            Self::V4 => config.loopback4.to_string(),
            Self::V6 => "::1/128".to_owned(),
        }
    }

    /// The source address of the proxy's connections to its application.
    pub(super) const fn passthrough(self) -> &'static str {
        match self {
            Self::V4 => "127.0.0.6/32",
            Self::V6 => "::6/128",
        }
    }

    /// Whether a range is of this family. An IPv4-mapped range is IPv6, as in `istio-iptables`.
    pub const fn has(self, net: &IpNet) -> bool {
        match net {
            IpNet::V4(_) => matches!(self, Self::V4),
            IpNet::V6(_) => matches!(self, Self::V6),
        }
    }
}
