//! The table of options: names, variables, defaults and help of `istio-iptables`' options, one row each.
//!
//! The flags, the environment, the messages and the documentation all walk this table. The rows are
//! in the order of the help.

/// The kind of an option's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// True or false, in the spellings of Go's `strconv.ParseBool`.
    Switch,
}

/// The environment variables that are bound to an option. A bound variable sets the option if no
/// flag does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// No variable.
    Nothing,
    /// One variable: the long name in upper case, with `_` for `-`.
    Name,
    /// The same variable, and another one that wins over it.
    NameAnd(&'static str),
    /// This variable instead of the one after the long name.
    Instead(&'static str),
    /// This variable, and the option has no flag.
    Only(&'static str),
}

/// The part of the help that shows an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// The options that most pods need.
    Main,
    /// Further options that have an effect.
    Further,
    /// Options that are accepted without effect, or refused. The help does not show them;
    /// docs/differences.md does.
    Compatibility,
}

impl Group {
    /// The heading in the help, if the help shows the group.
    #[must_use]
    pub const fn heading(self) -> Option<&'static str> {
        match self {
            Self::Main => Some("Main options (istio-iptables)"),
            Self::Further => Some("Further options (istio-iptables)"),
            Self::Compatibility => None,
        }
    }
}

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spec {
    /// The letter of the flag.
    pub short: Option<char>,
    /// The long name of the flag; empty if there is no flag.
    pub long: &'static str,
    /// The bound environment variables.
    pub bound: Bound,
    /// The value if neither flag nor variable sets the option.
    pub default: &'static str,
    /// The kind of the value.
    pub kind: Kind,
    /// The placeholder of the value in the help.
    pub value: &'static str,
    /// The part of the help that shows the option.
    pub group: Group,
    /// The lines of the help, as they stand in the source.
    pub help: &'static [&'static str],
}

const fn text(long: &'static str, value: &'static str, group: Group) -> Spec {
    Spec {
        short: None,
        long,
        bound: Bound::Name,
        default: "",
        kind: Kind::Text,
        value,
        group,
        help: &[],
    }
}

const fn switch(long: &'static str, group: Group) -> Spec {
    Spec {
        default: "false",
        kind: Kind::Switch,
        ..text(long, "BOOL", group)
    }
}

const fn variable(name: &'static str) -> Spec {
    Spec {
        bound: Bound::Only(name),
        ..text("", "", Group::Compatibility)
    }
}

impl Spec {
    const fn letter(self, letter: char) -> Self {
        Self {
            short: Some(letter),
            ..self
        }
    }

    const fn default(self, default: &'static str) -> Self {
        Self { default, ..self }
    }

    const fn bound(self, bound: Bound) -> Self {
        Self { bound, ..self }
    }
}

/// Defines the options and their rows from one list.
macro_rules! options {
    ($($(#[doc = $help:literal])+ $option:ident: $spec:expr,)+) => {
        /// An option of `istio-iptables`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Opt {
            $($(#[doc = $help])+ $option,)+
        }

        impl Opt {
            /// Every option, in the order of the help.
            pub const ALL: &'static [Self] = &[$(Self::$option),+];

            /// The option's row.
            #[must_use]
            pub const fn spec(self) -> Spec {
                match self {
                    $(Self::$option => Spec { help: &[$($help),+], ..$spec },)+
                }
            }
        }
    };
}

options! {
    /// Users of the proxy, up to four: their connections are direct, and only the first one's calls
    /// to its own pod go to the inbound port [default: the uid of the user `$ENVOY_USER`,
    /// istio-proxy if unset, or 1337 if there is no such user]
    ProxyUid: text("proxy-uid", "UIDS", Group::Main).letter('u'),
    /// Ranges to redirect, or * for every destination [default: none]
    Include: text("istio-service-cidr", "CIDRS", Group::Main).letter('i'),
    /// Ranges not to redirect; they win over -i and -q
    Exclude: text("istio-service-exclude-cidr", "CIDRS", Group::Main).letter('x'),
    /// Inbound ports to redirect, or *; only for a pod with its own network namespace [default:
    /// none]
    InboundPorts: text("istio-inbound-ports", "PORTS", Group::Main).letter('b'),
    /// Inbound ports not to redirect, if -b is *
    InboundExcludePorts: text("istio-local-exclude-ports", "PORTS", Group::Main).letter('d'),
    /// Port of the proxy for outbound connections [default: 15001]
    OutPort: text("envoy-port", "PORT", Group::Further).letter('p').default("15001").bound(Bound::Nothing),
    /// Port of the proxy for inbound connections, and for the proxy's calls to its own pod
    /// [default: 15006]
    InPort: text("inbound-capture-port", "PORT", Group::Further).letter('z').default("15006"),
    /// Tunnel (HBONE) port: the proxy's calls to it on its own pod are left alone [default:
    /// 15008]
    TunnelPort: text("inbound-tunnel-port", "PORT", Group::Further).letter('e').default("15008"),
    /// Groups of the proxy, up to four: their connections are direct [default: the value of -u]
    ProxyGid: text("proxy-gid", "GIDS", Group::Further).letter('g'),
    /// Inbound mode: TPROXY or REDIRECT; any other word means REDIRECT, with a warning [default:
    /// REDIRECT]
    Mode: text("istio-inbound-interception-mode", "MODE", Group::Further).letter('m'),
    /// Destination ports to redirect whatever the address: 80,8000:9000
    IncludePorts: text("istio-outbound-ports", "PORTS", Group::Further).letter('q'),
    /// Destination ports never to redirect; they win over everything
    ExcludePorts: text("istio-local-outbound-ports-exclude", "PORTS", Group::Further).letter('o'),
    /// Interfaces to leave alone, up to eight; net+ is every one that begins with net. For outbound
    /// connections the interface is that of the pod's route to the destination in the main routing
    /// table, as last read
    ExcludeInterfaces: text("istio-exclude-interfaces", "NAMES", Group::Further).letter('c'),
    /// Groups whose connections are redirected, by name or gid, up to 64; none if empty [default:
    /// `$ISTIO_OUTBOUND_OWNER_GROUPS`, or * for every group]
    OwnerGroups: text("outbound-owner-groups", "GROUPS", Group::Further).default("*").bound(Bound::Instead("ISTIO_OUTBOUND_OWNER_GROUPS")),
    /// Groups whose connections are not redirected, if the other list is * [default:
    /// `$ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE`]
    OwnerGroupsExclude: text("outbound-owner-groups-exclude", "GROUPS", Group::Further).bound(Bound::Instead("ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE")),
    /// IPv4 range that counts as loopback itself, which is never redirected [default:
    /// `$ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR`, or 127.0.0.1/32]
    LoopbackCidr: text("host-ipv4-loopback-cidr", "CIDR", Group::Further).default("127.0.0.1/32").bound(Bound::Instead("ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR")),
    /// Redirect DNS queries, by TCP and UDP, to port 15053 of the proxy
    RedirectDns: switch("redirect-dns", Group::Further).bound(Bound::NameAnd("ISTIO_META_DNS_CAPTURE")),
    /// Redirect DNS queries to any resolver, not only to the listed ones
    CaptureAllDns: switch("capture-all-dns", Group::Further),
    /// Addresses of the resolvers whose queries are redirected [default: the resolvers in the pod's
    /// `/etc/resolv.conf`]
    DnsServers: text("dns-servers", "ADDRESSES", Group::Further).bound(Bound::Nothing),
    /// Redirect IPv6 if any address of the pod is IPv6, not only if the first one is; loopback and
    /// link-local addresses do not count
    DualStack: switch("dual-stack", Group::Further).bound(Bound::NameAnd("ISTIO_DUAL_STACK")),
    /// Interfaces of virtual machines: refused unless empty
    VirtualInterfaces: text("kube-virt-interfaces", "NAMES", Group::Compatibility).letter('k'),
    /// Mark for TPROXY: no effect
    TproxyMark: text("istio-inbound-tproxy-mark", "MARK", Group::Compatibility).letter('t').default("1337"),
    /// Routing table for TPROXY: no effect
    TproxyTable: text("istio-inbound-tproxy-route-table", "TABLE", Group::Compatibility).letter('r').default("133"),
    /// Only print what would be done: refused
    DryRun: switch("dry-run", Group::Compatibility).letter('n'),
    /// Port for the validation run: no effect
    ProbePort: text("iptables-probe-port", "PORT", Group::Compatibility).default("15002"),
    /// Limit of the validation run: no effect
    ProbeTimeout: text("probe-timeout", "DURATION", Group::Compatibility).default("5s"),
    /// Change nothing: refused
    SkipRuleApply: switch("skip-rule-apply", Group::Compatibility),
    /// Validate after applying: refused
    RunValidation: switch("run-validation", Group::Compatibility),
    /// Drop packets that conntrack calls INVALID: refused, no packet is seen
    DropInvalid: switch("drop-invalid", Group::Compatibility).bound(Bound::NameAnd("INVALID_DROP")),
    /// Name of the iptables lock: no effect
    NetworkNamespace: text("network-namespace", "PATH", Group::Compatibility),
    /// Scope of the iptables lock: no effect
    CniMode: switch("cni-mode", Group::Compatibility),
    /// Replace rules that drifted: no effect, an update always replaces
    Reconcile: switch("reconcile", Group::Compatibility),
    /// Remove the rules: refused, use `redirectctl detach`
    CleanupOnly: switch("cleanup-only", Group::Compatibility),
    /// Apply although rules exist: no effect, an update always replaces
    ForceApply: switch("force-apply", Group::Compatibility),
    /// Use nftables: no effect
    NativeNftables: switch("native-nftables", Group::Compatibility),
    /// Variant of iptables, legacy or nft: no effect
    ForceIptablesBinary: text("force-iptables-binary", "VARIANT", Group::Compatibility),
    /// Log level of istio-iptables: no effect
    LogOutputLevel: text("log_output_level", "LEVEL", Group::Compatibility).bound(Bound::Nothing),
    /// Log format of istio-iptables: no effect, see --output
    LogAsJson: switch("log_as_json", Group::Compatibility).bound(Bound::Nothing),
    /// User whose uid is the proxy's, if no uid is given. Only a variable
    EnvoyUser: variable("ENVOY_USER").default("istio-proxy"),
}

impl Opt {
    /// The variables bound to the option. The first one that is set wins.
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

    /// The option as messages name it: `-x/--istio-service-exclude-cidr`, or its variable.
    #[must_use]
    pub fn name(self) -> String {
        let spec = self.spec();
        match (spec.short, spec.bound) {
            (_, Bound::Only(variable)) => variable.to_owned(),
            (Some(short), _) => format!("-{short}/--{}", spec.long),
            (None, _) => format!("--{}", spec.long),
        }
    }

    /// The shortest spelling of the flag: the letter with its dash, or else the long name.
    #[must_use]
    pub fn shortest(self) -> String {
        let spec = self.spec();
        match (spec.short, spec.bound) {
            (_, Bound::Only(variable)) => variable.to_owned(),
            (Some(short), _) => format!("-{short}"),
            (None, _) => format!("--{}", spec.long),
        }
    }

    /// The words that set the option to a text on a command line.
    #[must_use]
    pub fn words(self, text: &str) -> Vec<String> {
        match (self.spec().kind, text) {
            (Kind::Switch, "true") => vec![self.shortest()],
            (Kind::Switch, text) => vec![format!("{}={text}", self.shortest())],
            (Kind::Text, text) => vec![self.shortest(), text.to_owned()],
        }
    }
}
