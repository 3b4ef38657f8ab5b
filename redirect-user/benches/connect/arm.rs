//! The arms: the ways in which a connection reaches the listener.

use std::fmt;

use clap::ValueEnum;
use redirect_testkit::iptables::Backend;

/// One way in which a connection reaches the listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Arm {
    /// The client dials the listener, which no redirection can be faster than
    #[value(skip)]
    Direct,
    /// Istio's rules in iptables-legacy
    IptablesLegacy,
    /// Istio's rules in iptables-nft
    IptablesNft,
    /// This build's programs
    Ebpf,
    /// Another build's programs; see `--baseline`.
    #[value(skip)]
    Baseline,
}

impl Arm {
    /// The arms that are measured besides the direct one by default.
    pub(crate) const REDIRECTING: [Self; 3] = [Self::IptablesLegacy, Self::IptablesNft, Self::Ebpf];

    /// The arm's name in figures.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::IptablesLegacy => "iptables-legacy",
            Self::IptablesNft => "iptables-nft",
            Self::Ebpf => "ebpf",
            Self::Baseline => "ebpf-baseline",
        }
    }

    /// The iptables backend that redirects, if one does.
    pub(crate) const fn backend(self) -> Option<Backend> {
        match self {
            Self::IptablesLegacy => Some(Backend::Legacy),
            Self::IptablesNft => Some(Backend::Nft),
            Self::Direct | Self::Ebpf | Self::Baseline => None,
        }
    }

    /// The arm's name in the names of pods, which have room for a few letters.
    pub(crate) const fn short(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::IptablesLegacy => "legacy",
            Self::IptablesNft => "nft",
            Self::Ebpf => "ebpf",
            Self::Baseline => "base",
        }
    }
}

impl fmt::Display for Arm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
