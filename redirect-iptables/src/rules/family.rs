//! The two families, whose rules differ in a few addresses.

use ipnet::IpNet;
use redirect_user::config::RedirectConfig;

/// Which IP version rules are for.
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

    /// The version's number.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::V4 => 4,
            Self::V6 => 6,
        }
    }

    /// The range that counts as loopback itself.
    pub(super) fn loopback(self, config: &RedirectConfig) -> String {
        match self {
            Self::V4 => config.loopback4.to_string(),
            Self::V6 => "::1/128".to_owned(),
        }
    }

    /// The source of the proxy's connections to its application.
    pub(super) const fn passthrough(self) -> &'static str {
        match self {
            Self::V4 => "127.0.0.6/32",
            Self::V6 => "::6/128",
        }
    }

    /// Whether a range is of this family. An IPv4-mapped one is IPv6, as in `istio-iptables`.
    pub const fn has(self, net: &IpNet) -> bool {
        match net {
            IpNet::V4(_) => matches!(self, Self::V4),
            IpNet::V6(_) => matches!(self, Self::V6),
        }
    }
}
