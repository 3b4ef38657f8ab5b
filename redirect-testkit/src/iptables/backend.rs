// SPDX-License-Identifier: MIT OR Apache-2.0
//! The two packet filters of the kernel, the two IP versions, and the programs for each.

/// The packet filter of the kernel that takes the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// `iptables-legacy`.
    Legacy,
    /// `iptables-nft`.
    Nft,
}

/// The IP version of the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// `iptables`.
    V4,
    /// `ip6tables`.
    V6,
}

impl Backend {
    /// The programs that tests of this backend need, for [`crate::missing`].
    pub const fn programs(self) -> [&'static str; 4] {
        match self {
            Self::Legacy => [
                "iptables-legacy-restore",
                "ip6tables-legacy-restore",
                "iptables-legacy-save",
                "ip6tables-legacy-save",
            ],
            Self::Nft => [
                "iptables-nft-restore",
                "ip6tables-nft-restore",
                "iptables-nft-save",
                "ip6tables-nft-save",
            ],
        }
    }

    pub(super) const fn restore(self, family: Family) -> &'static str {
        let [v4, v6, _, _] = self.programs();
        match family {
            Family::V4 => v4,
            Family::V6 => v6,
        }
    }

    pub(super) const fn save(self, family: Family) -> &'static str {
        let [_, _, v4, v6] = self.programs();
        match family {
            Family::V4 => v4,
            Family::V6 => v6,
        }
    }
}
