//! The flags of `istio-iptables`, with its letters and names.
//!
//! Values stay text here: [`super::resolve`] parses them together with the environment, so that
//! both have the same syntax and the same messages. As with Go's flags, a switch is `--flag` or
//! `--flag=false`, and the last of several wins.

use clap::{
    Args,
    builder::{StringValueParser, TypedValueParser},
};

use super::{
    given::{bool_text, parse_bool},
    option::Opt,
};

/// In the order of the help: what most pods need, what else has an effect, and the rest, which only
/// the long help shows.
const MAIN: &str = "What is redirected (istio-iptables)";
const FURTHER: &str = "Further options (istio-iptables)";
const COMPATIBILITY: &str = "Accepted or refused for compatibility (istio-iptables)";

/// Takes the spellings of Go's `strconv.ParseBool`.
fn switch() -> impl TypedValueParser<Value = bool> {
    StringValueParser::new().try_map(|text| parse_bool(&text).ok_or("write true or false"))
}

/// The flags. Their help says what this program does with them, not what iptables would.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
#[command(args_override_self = true)]
pub struct Flags {
    /// Users of the proxy, up to four: their connections are direct, and only the first one's calls
    /// to its own pod go to the inbound port [default: the uid of the user `$ENVOY_USER`,
    /// istio-proxy if unset, or 1337 if there is no such user]
    #[arg(short = 'u', long = "proxy-uid", value_name = "UIDS", help_heading = MAIN)]
    pub proxy_uid: Option<String>,
    /// Ranges to redirect, or * for every destination [default: none]
    #[arg(short = 'i', long = "istio-service-cidr", value_name = "CIDRS", help_heading = MAIN)]
    pub include: Option<String>,
    /// Ranges not to redirect; they win over -i and -q
    #[arg(short = 'x', long = "istio-service-exclude-cidr", value_name = "CIDRS", help_heading = MAIN)]
    pub exclude: Option<String>,
    /// Inbound ports to redirect, or *; a pod with a network namespace of its own only [default:
    /// none]
    #[arg(short = 'b', long = "istio-inbound-ports", value_name = "PORTS", help_heading = MAIN)]
    pub inbound_ports: Option<String>,
    /// Inbound ports not to redirect, if -b is *
    #[arg(short = 'd', long = "istio-local-exclude-ports", value_name = "PORTS", help_heading = MAIN)]
    pub inbound_exclude_ports: Option<String>,
    /// Port of the proxy for outbound connections [default: 15001]
    #[arg(short = 'p', long = "envoy-port", value_name = "PORT", help_heading = FURTHER)]
    pub out_port: Option<String>,
    /// Port of the proxy for inbound connections, and for its calls to its own pod [default:
    /// 15006]
    #[arg(short = 'z', long = "inbound-capture-port", value_name = "PORT", help_heading = FURTHER)]
    pub in_port: Option<String>,
    /// Tunnel (HBONE) port: the proxy's calls to it on its own pod are left alone [default:
    /// 15008]
    #[arg(short = 'e', long = "inbound-tunnel-port", value_name = "PORT", help_heading = FURTHER)]
    pub tunnel_port: Option<String>,
    /// Groups of the proxy, up to four: their connections are direct [default: the value of -u]
    #[arg(short = 'g', long = "proxy-gid", value_name = "GIDS", help_heading = FURTHER)]
    pub proxy_gid: Option<String>,
    /// Inbound mode: TPROXY, or REDIRECT, which any other word means, too, with a warning [default:
    /// REDIRECT]
    #[arg(short = 'm', long = "istio-inbound-interception-mode", value_name = "MODE", help_heading = FURTHER)]
    pub mode: Option<String>,
    /// Destination ports to redirect whatever the address: 80,8000:9000
    #[arg(short = 'q', long = "istio-outbound-ports", value_name = "PORTS", help_heading = FURTHER)]
    pub include_ports: Option<String>,
    /// Destination ports never to redirect; they win over everything
    #[arg(short = 'o', long = "istio-local-outbound-ports-exclude", value_name = "PORTS", help_heading = FURTHER)]
    pub exclude_ports: Option<String>,
    /// Interfaces to leave alone, up to eight; net+ is every one that begins with net. Outbound it is
    /// that of the pod's route to the destination: of the main routing table, as it was read last
    #[arg(short = 'c', long = "istio-exclude-interfaces", value_name = "NAMES", help_heading = FURTHER)]
    pub exclude_interfaces: Option<String>,
    /// Groups whose connections are redirected, by name or gid, up to 64; none if empty [default:
    /// `$ISTIO_OUTBOUND_OWNER_GROUPS`, or * for every group]
    #[arg(long = "outbound-owner-groups", value_name = "GROUPS", help_heading = FURTHER)]
    pub owner_groups: Option<String>,
    /// Groups whose connections are not redirected, if the other list is * [default:
    /// `$ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE`]
    #[arg(long = "outbound-owner-groups-exclude", value_name = "GROUPS", help_heading = FURTHER)]
    pub owner_groups_exclude: Option<String>,
    /// IPv4 range that counts as loopback itself, which is never redirected [default:
    /// `$ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR`, or 127.0.0.1/32]
    #[arg(long = "host-ipv4-loopback-cidr", value_name = "CIDR", help_heading = FURTHER)]
    pub loopback_cidr: Option<String>,
    /// Redirect DNS queries, by TCP and UDP, to port 15053 of the proxy
    #[arg(long = "redirect-dns", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch(), help_heading = FURTHER)]
    pub redirect_dns: Option<bool>,
    /// Redirect those to any resolver, not only to the listed ones
    #[arg(long = "capture-all-dns", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch(), help_heading = FURTHER)]
    pub capture_all_dns: Option<bool>,
    /// Addresses of the resolvers whose queries are redirected [default: those that the pod's
    /// `/etc/resolv.conf` names]
    #[arg(long = "dns-servers", value_name = "ADDRESSES", help_heading = FURTHER)]
    pub dns_servers: Option<String>,
    /// Redirect IPv6 if any address of the pod is IPv6, not only if the first one is; loopback and
    /// link-local ones do not count
    #[arg(long = "dual-stack", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch(), help_heading = FURTHER)]
    pub dual_stack: Option<bool>,
    /// Interfaces of virtual machines: refused unless empty
    #[arg(short = 'k', long = "kube-virt-interfaces", value_name = "NAMES", hide_short_help = true, help_heading = COMPATIBILITY)]
    pub virtual_interfaces: Option<String>,
    /// Mark for TPROXY: no effect
    #[arg(short = 't', long = "istio-inbound-tproxy-mark", value_name = "MARK", hide_short_help = true, help_heading = COMPATIBILITY)]
    pub tproxy_mark: Option<String>,
    /// Routing table for TPROXY: no effect
    #[arg(short = 'r', long = "istio-inbound-tproxy-route-table", value_name = "TABLE", hide_short_help = true, help_heading = COMPATIBILITY)]
    pub tproxy_table: Option<String>,
    /// Only print what would be done: refused
    #[arg(short = 'n', long = "dry-run", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch(), hide_short_help = true, help_heading = COMPATIBILITY)]
    pub dry_run: Option<bool>,
    /// Port for the validation run: no effect
    #[arg(long = "iptables-probe-port", value_name = "PORT", hide_short_help = true, help_heading = COMPATIBILITY)]
    pub probe_port: Option<String>,
    /// Limit of the validation run: no effect
    #[arg(long = "probe-timeout", value_name = "DURATION", hide_short_help = true, help_heading = COMPATIBILITY)]
    pub probe_timeout: Option<String>,
    /// Change nothing: refused
    #[arg(long = "skip-rule-apply", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch(), hide_short_help = true, help_heading = COMPATIBILITY)]
    pub skip_rule_apply: Option<bool>,
    /// Validate after applying: refused
    #[arg(long = "run-validation", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch(), hide_short_help = true, help_heading = COMPATIBILITY)]
    pub run_validation: Option<bool>,
    /// Drop packets that conntrack calls INVALID: refused, no packet is seen
    #[arg(long = "drop-invalid", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch(), hide_short_help = true, help_heading = COMPATIBILITY)]
    pub drop_invalid: Option<bool>,
    /// Name of the iptables lock: no effect
    #[arg(long = "network-namespace", value_name = "PATH", hide_short_help = true, help_heading = COMPATIBILITY)]
    pub network_namespace: Option<String>,
    /// Scope of the iptables lock: no effect
    #[arg(long = "cni-mode", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch(), hide_short_help = true, help_heading = COMPATIBILITY)]
    pub cni_mode: Option<bool>,
    /// Replace rules that drifted: no effect, an update always replaces
    #[arg(long = "reconcile", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch(), hide_short_help = true, help_heading = COMPATIBILITY)]
    pub reconcile: Option<bool>,
    /// Remove the rules: refused, use `redirectctl detach`
    #[arg(long = "cleanup-only", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch(), hide_short_help = true, help_heading = COMPATIBILITY)]
    pub cleanup_only: Option<bool>,
    /// Apply although rules exist: no effect, an update always replaces
    #[arg(long = "force-apply", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch(), hide_short_help = true, help_heading = COMPATIBILITY)]
    pub force_apply: Option<bool>,
    /// Use nftables: no effect
    #[arg(long = "native-nftables", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch(), hide_short_help = true, help_heading = COMPATIBILITY)]
    pub native_nftables: Option<bool>,
    /// Variant of iptables, legacy or nft: no effect
    #[arg(long = "force-iptables-binary", value_name = "VARIANT", hide_short_help = true, help_heading = COMPATIBILITY)]
    pub force_iptables_binary: Option<String>,
    /// Log level of istio-iptables: no effect
    #[arg(long = "log_output_level", value_name = "LEVEL", hide_short_help = true, help_heading = COMPATIBILITY)]
    pub log_output_level: Option<String>,
    /// Log format of istio-iptables: no effect, see --output
    #[arg(long = "log_as_json", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch(), hide_short_help = true, help_heading = COMPATIBILITY)]
    pub log_as_json: Option<bool>,
}

impl Flags {
    /// The text of an option's flag, if it was given; a switch is `true` or `false`.
    pub(crate) fn value(&self, option: Opt) -> Option<&str> {
        match option {
            Opt::OutPort => self.out_port.as_deref(),
            Opt::InPort => self.in_port.as_deref(),
            Opt::TunnelPort => self.tunnel_port.as_deref(),
            Opt::ProxyUid => self.proxy_uid.as_deref(),
            Opt::ProxyGid => self.proxy_gid.as_deref(),
            Opt::Mode => self.mode.as_deref(),
            Opt::InboundPorts => self.inbound_ports.as_deref(),
            Opt::InboundExcludePorts => self.inbound_exclude_ports.as_deref(),
            Opt::Include => self.include.as_deref(),
            Opt::Exclude => self.exclude.as_deref(),
            Opt::IncludePorts => self.include_ports.as_deref(),
            Opt::ExcludePorts => self.exclude_ports.as_deref(),
            Opt::ExcludeInterfaces => self.exclude_interfaces.as_deref(),
            Opt::VirtualInterfaces => self.virtual_interfaces.as_deref(),
            Opt::TproxyMark => self.tproxy_mark.as_deref(),
            Opt::TproxyTable => self.tproxy_table.as_deref(),
            Opt::DryRun => self.dry_run.map(bool_text),
            Opt::ProbePort => self.probe_port.as_deref(),
            Opt::ProbeTimeout => self.probe_timeout.as_deref(),
            Opt::SkipRuleApply => self.skip_rule_apply.map(bool_text),
            Opt::RunValidation => self.run_validation.map(bool_text),
            Opt::RedirectDns => self.redirect_dns.map(bool_text),
            Opt::CaptureAllDns => self.capture_all_dns.map(bool_text),
            Opt::DropInvalid => self.drop_invalid.map(bool_text),
            Opt::DualStack => self.dual_stack.map(bool_text),
            Opt::NetworkNamespace => self.network_namespace.as_deref(),
            Opt::CniMode => self.cni_mode.map(bool_text),
            Opt::Reconcile => self.reconcile.map(bool_text),
            Opt::CleanupOnly => self.cleanup_only.map(bool_text),
            Opt::ForceApply => self.force_apply.map(bool_text),
            Opt::NativeNftables => self.native_nftables.map(bool_text),
            Opt::ForceIptablesBinary => self.force_iptables_binary.as_deref(),
            Opt::LogOutputLevel => self.log_output_level.as_deref(),
            Opt::LogAsJson => self.log_as_json.map(bool_text),
            Opt::OwnerGroups => self.owner_groups.as_deref(),
            Opt::OwnerGroupsExclude => self.owner_groups_exclude.as_deref(),
            Opt::LoopbackCidr => self.loopback_cidr.as_deref(),
            Opt::DnsServers => self.dns_servers.as_deref(),
            Opt::EnvoyUser => None,
        }
    }
}
