//! The options of `istio-iptables`: their names, variables and defaults.

/// An option, named after what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Opt {
    /// `-p`.
    OutPort,
    /// `-z`.
    InPort,
    /// `-e`.
    TunnelPort,
    /// `-u`.
    ProxyUid,
    /// `-g`.
    ProxyGid,
    /// `-m`.
    Mode,
    /// `-b`.
    InboundPorts,
    /// `-d`.
    InboundExcludePorts,
    /// `-c`.
    ExcludeInterfaces,
    /// `-i`.
    Include,
    /// `-x`.
    Exclude,
    /// `-q`.
    IncludePorts,
    /// `-o`.
    ExcludePorts,
    /// `-k`.
    VirtualInterfaces,
    /// `-t`.
    TproxyMark,
    /// `-r`.
    TproxyTable,
    /// `-n`.
    DryRun,
    /// `--iptables-probe-port`.
    ProbePort,
    /// `--probe-timeout`.
    ProbeTimeout,
    /// `--skip-rule-apply`.
    SkipRuleApply,
    /// `--run-validation`.
    RunValidation,
    /// `--redirect-dns`.
    RedirectDns,
    /// `--capture-all-dns`.
    CaptureAllDns,
    /// `--drop-invalid`.
    DropInvalid,
    /// `--dual-stack`.
    DualStack,
    /// `--network-namespace`.
    NetworkNamespace,
    /// `--cni-mode`.
    CniMode,
    /// `--reconcile`.
    Reconcile,
    /// `--cleanup-only`.
    CleanupOnly,
    /// `--force-apply`.
    ForceApply,
    /// `--native-nftables`.
    NativeNftables,
    /// `--force-iptables-binary`.
    ForceIptablesBinary,
    /// `--log_output_level`.
    LogOutputLevel,
    /// `--log_as_json`.
    LogAsJson,
    /// `--outbound-owner-groups`.
    OwnerGroups,
    /// `--outbound-owner-groups-exclude`.
    OwnerGroupsExclude,
    /// `--host-ipv4-loopback-cidr`.
    LoopbackCidr,
    /// `--dns-servers`.
    DnsServers,
    /// `ENVOY_USER`.
    EnvoyUser,
}

/// What an option's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// True or false, in the spellings of Go's `strconv.ParseBool`.
    Switch,
}

/// Which variable is bound to an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// None.
    Nothing,
    /// The long name in upper case, with `_` for `-`.
    Name,
    /// That one, and another that wins over it.
    NameAnd(&'static str),
    /// This variable instead.
    Instead(&'static str),
    /// This variable, and there is no flag.
    Only(&'static str),
}

/// An option's names and default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spec {
    /// The letter.
    pub short: Option<char>,
    /// The long name; empty if there is no flag.
    pub long: &'static str,
    /// The variable.
    pub bound: Bound,
    /// What it is if it is not given.
    pub default: &'static str,
    /// What its value is.
    pub kind: Kind,
}

const fn letter(short: char, long: &'static str) -> Spec {
    Spec {
        short: Some(short),
        ..text(long)
    }
}

const fn text(long: &'static str) -> Spec {
    Spec {
        short: None,
        long,
        bound: Bound::Name,
        default: "",
        kind: Kind::Text,
    }
}

const fn switch(long: &'static str) -> Spec {
    Spec {
        default: "false",
        kind: Kind::Switch,
        ..text(long)
    }
}

const fn variable(name: &'static str) -> Spec {
    Spec {
        bound: Bound::Only(name),
        ..text("")
    }
}

impl Spec {
    const fn default(self, default: &'static str) -> Self {
        Self { default, ..self }
    }

    const fn bound(self, bound: Bound) -> Self {
        Self { bound, ..self }
    }
}

impl Opt {
    /// Every option.
    pub const ALL: [Self; 39] = [
        Self::OutPort,
        Self::InPort,
        Self::TunnelPort,
        Self::ProxyUid,
        Self::ProxyGid,
        Self::Mode,
        Self::InboundPorts,
        Self::InboundExcludePorts,
        Self::ExcludeInterfaces,
        Self::Include,
        Self::Exclude,
        Self::IncludePorts,
        Self::ExcludePorts,
        Self::VirtualInterfaces,
        Self::TproxyMark,
        Self::TproxyTable,
        Self::DryRun,
        Self::ProbePort,
        Self::ProbeTimeout,
        Self::SkipRuleApply,
        Self::RunValidation,
        Self::RedirectDns,
        Self::CaptureAllDns,
        Self::DropInvalid,
        Self::DualStack,
        Self::NetworkNamespace,
        Self::CniMode,
        Self::Reconcile,
        Self::CleanupOnly,
        Self::ForceApply,
        Self::NativeNftables,
        Self::ForceIptablesBinary,
        Self::LogOutputLevel,
        Self::LogAsJson,
        Self::OwnerGroups,
        Self::OwnerGroupsExclude,
        Self::LoopbackCidr,
        Self::DnsServers,
        Self::EnvoyUser,
    ];

    /// The option's names and default.
    #[must_use]
    pub const fn spec(self) -> Spec {
        match self {
            Self::OutPort => letter('p', "envoy-port")
                .default("15001")
                .bound(Bound::Nothing),
            Self::InPort => letter('z', "inbound-capture-port").default("15006"),
            Self::TunnelPort => letter('e', "inbound-tunnel-port").default("15008"),
            Self::ProxyUid => letter('u', "proxy-uid"),
            Self::ProxyGid => letter('g', "proxy-gid"),
            Self::Mode => letter('m', "istio-inbound-interception-mode"),
            Self::InboundPorts => letter('b', "istio-inbound-ports"),
            Self::InboundExcludePorts => letter('d', "istio-local-exclude-ports"),
            Self::ExcludeInterfaces => letter('c', "istio-exclude-interfaces"),
            Self::Include => letter('i', "istio-service-cidr"),
            Self::Exclude => letter('x', "istio-service-exclude-cidr"),
            Self::IncludePorts => letter('q', "istio-outbound-ports"),
            Self::ExcludePorts => letter('o', "istio-local-outbound-ports-exclude"),
            Self::VirtualInterfaces => letter('k', "kube-virt-interfaces"),
            Self::TproxyMark => letter('t', "istio-inbound-tproxy-mark").default("1337"),
            Self::TproxyTable => letter('r', "istio-inbound-tproxy-route-table").default("133"),
            Self::DryRun => Spec {
                short: Some('n'),
                ..switch("dry-run")
            },
            Self::ProbePort => text("iptables-probe-port").default("15002"),
            Self::ProbeTimeout => text("probe-timeout").default("5s"),
            Self::SkipRuleApply => switch("skip-rule-apply"),
            Self::RunValidation => switch("run-validation"),
            Self::RedirectDns => {
                switch("redirect-dns").bound(Bound::NameAnd("ISTIO_META_DNS_CAPTURE"))
            }
            Self::CaptureAllDns => switch("capture-all-dns"),
            Self::DropInvalid => switch("drop-invalid").bound(Bound::NameAnd("INVALID_DROP")),
            Self::DualStack => switch("dual-stack").bound(Bound::NameAnd("ISTIO_DUAL_STACK")),
            Self::NetworkNamespace => text("network-namespace"),
            Self::CniMode => switch("cni-mode"),
            Self::Reconcile => switch("reconcile"),
            Self::CleanupOnly => switch("cleanup-only"),
            Self::ForceApply => switch("force-apply"),
            Self::NativeNftables => switch("native-nftables"),
            Self::ForceIptablesBinary => text("force-iptables-binary"),
            Self::LogOutputLevel => text("log_output_level").bound(Bound::Nothing),
            Self::LogAsJson => switch("log_as_json").bound(Bound::Nothing),
            Self::OwnerGroups => text("outbound-owner-groups")
                .default("*")
                .bound(Bound::Instead("ISTIO_OUTBOUND_OWNER_GROUPS")),
            Self::OwnerGroupsExclude => text("outbound-owner-groups-exclude")
                .bound(Bound::Instead("ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE")),
            Self::LoopbackCidr => text("host-ipv4-loopback-cidr")
                .default("127.0.0.1/32")
                .bound(Bound::Instead("ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR")),
            Self::DnsServers => text("dns-servers").bound(Bound::Nothing),
            Self::EnvoyUser => variable("ENVOY_USER").default("istio-proxy"),
        }
    }

    /// The variables bound to the option, the one that wins first.
    #[must_use]
    pub fn variables(self) -> Vec<String> {
        let spec = self.spec();
        let name = || spec.long.to_uppercase().replace('-', "_");
        match spec.bound {
            Bound::Nothing => Vec::new(),
            Bound::Name => vec![name()],
            Bound::NameAnd(winner) => vec![winner.to_owned(), name()],
            Bound::Instead(variable) | Bound::Only(variable) => vec![variable.to_owned()],
        }
    }

    /// The option as a message names it: `-x/--istio-service-exclude-cidr`, or its variable.
    #[must_use]
    pub fn name(self) -> String {
        let spec = self.spec();
        match (spec.short, spec.bound) {
            (_, Bound::Only(variable)) => variable.to_owned(),
            (Some(short), _) => format!("-{short}/--{}", spec.long),
            (None, _) => format!("--{}", spec.long),
        }
    }
}
