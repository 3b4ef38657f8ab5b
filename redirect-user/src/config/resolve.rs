//! The resolution of flags and environment into a configuration.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

use super::{
    cidr::parse_cidr,
    dns::Dns,
    element::{ElementError, Fault, Quoted, parse_list},
    environment::Environment,
    error::{ConfigError, Problem},
    flags::Flags,
    inbound::{Inbound, InboundMode, InboundPorts},
    interface::{Interface, parse_interface},
    names::Names,
    notice::notices,
    option::Opt,
    ports::{PortRange, parse_listener, parse_port_range, parse_single_port},
    redirect::{DEFAULT_LOOPBACK4, Include, OwnerGroups, ProxyIds, RedirectConfig},
    refusal::refusals,
    value::OptionValue,
};

/// The proxy's uid if neither an option nor the user database gives one.
const DEFAULT_UID: u32 = 1337;

/// A usable configuration with its warnings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The configuration.
    pub config: RedirectConfig,
    /// The values that were accepted without (full) effect, one sentence each that names the
    /// option.
    pub warnings: Vec<String>,
}

/// Resolves a configuration from flags, environment and defaults, in this precedence. All problems
/// are reported at once.
pub fn resolve(
    flags: &Flags,
    environment: &Environment,
    users: &impl Names,
    groups: &impl Names,
) -> Result<Resolved, ConfigError> {
    let mut reader = OptionReader {
        flags,
        environment,
        problems: Vec::new(),
        warnings: Vec::new(),
    };
    for &option in Opt::ALL {
        reader.check(option);
    }
    let (proxy_uids, proxy_gids) = reader.proxy_ids(users);
    let (owner_groups, owner_groups_exclude) = reader.owner_groups(groups);
    let config = RedirectConfig {
        out_port: reader.port(Opt::OutPort, parse_listener),
        in_port: reader.port(Opt::InPort, parse_listener),
        tunnel_port: reader.port(Opt::TunnelPort, parse_single_port),
        proxy_uids,
        proxy_gids,
        owner_groups,
        owner_groups_exclude,
        include: reader.include(),
        exclude: reader.exclude(),
        include_ports: reader.list(Opt::IncludePorts, parse_port_range),
        exclude_ports: reader.list(Opt::ExcludePorts, parse_port_range),
        exclude_interfaces: reader.exclude_interfaces(),
        loopback4: reader.loopback4(),
        dns: reader.dns(),
        dual_stack: reader.value(Opt::DualStack).is_on(),
        inbound: reader.inbound(),
        shadow: false,
    };
    if config.out_port == config.in_port {
        reader.warnings.push(format!(
            "-p and -z are one port, {}: the proxy cannot tell inbound connections from outbound ones",
            config.in_port
        ));
    }
    let OptionReader {
        problems, warnings, ..
    } = reader;
    if problems.is_empty() {
        Ok(Resolved { config, warnings })
    } else {
        Err(sorted(problems))
    }
}

/// The error with the problems in the order of the options.
fn sorted(mut problems: Vec<(Opt, Problem)>) -> ConfigError {
    problems.sort_by_key(|(option, _)| *option);
    ConfigError {
        problems: problems.into_iter().map(|(_, problem)| problem).collect(),
    }
}

/// Reads options one by one and collects their problems. A value that cannot be parsed is replaced
/// by its type's default, which no caller sees.
struct OptionReader<'a> {
    flags: &'a Flags,
    environment: &'a Environment,
    problems: Vec<(Opt, Problem)>,
    warnings: Vec<String>,
}

impl OptionReader<'_> {
    fn value(&self, option: Opt) -> OptionValue {
        OptionValue::of(option, self.flags, self.environment)
    }

    fn check(&mut self, option: Opt) {
        let value = self.value(option);
        self.problems
            .extend(refusals(&value).map(|problem| (option, problem)));
        self.warnings.extend(notices(&value));
    }

    /// Whether the value is refused, so that its syntax does not matter.
    fn is_refused(&self, option: Opt) -> bool {
        self.problems.iter().any(|(refused, _)| *refused == option)
    }

    fn push_syntax_error(&mut self, value: &OptionValue, cause: ElementError) {
        let problem = Problem::Syntax {
            option: value.name(),
            value: value.text.clone(),
            cause,
        };
        self.problems.push((value.option, problem));
    }

    fn port(&mut self, option: Opt, parse: impl Fn(&str) -> Result<u16, ElementError>) -> u16 {
        let value = self.value(option);
        parse(&value.text).unwrap_or_else(|cause| {
            self.push_syntax_error(&value, cause);
            0
        })
    }

    fn list<T>(&mut self, option: Opt, parse: impl Fn(&str) -> Result<T, ElementError>) -> Vec<T> {
        let value = self.value(option);
        parse_list(&value.text, parse).unwrap_or_else(|causes| {
            for cause in causes {
                self.push_syntax_error(&value, cause);
            }
            Vec::new()
        })
    }

    /// The uids and gids of the proxy. The gids are a copy of the uids unless they are given.
    fn proxy_ids(&mut self, users: &impl Names) -> (ProxyIds, ProxyIds) {
        let uids = match self.ids(Opt::ProxyUid) {
            Some(uids) => uids,
            None => users
                .id_of(&self.value(Opt::EnvoyUser).text)
                .unwrap_or(DEFAULT_UID)
                .into(),
        };
        let gids = self.ids(Opt::ProxyGid).unwrap_or_else(|| uids.clone());
        (uids, gids)
    }

    /// The uids or gids of an option; `None` if the value is empty.
    fn ids(&mut self, option: Opt) -> Option<ProxyIds> {
        let value = self.value(option);
        if value.text.is_empty() || self.is_refused(option) {
            return None;
        }
        // Istio drops empty elements, so "1337," is one id and "," is none.
        let ids = parse_list(&value.text, parse_id).unwrap_or_else(|causes| {
            for cause in causes {
                self.push_syntax_error(&value, cause);
            }
            vec![DEFAULT_UID]
        });
        if ids.is_empty() {
            self.push_syntax_error(&value, ElementError::new(&value.text, Fault::NotAnId));
        }
        ProxyIds::new(ids)
    }

    /// The owner groups that are redirected, and those that are not.
    fn owner_groups(&mut self, groups: &impl Names) -> (OwnerGroups, Vec<u32>) {
        let parse = |element: &str| parse_group(element, groups);
        if self.value(Opt::OwnerGroups).text == "*" {
            let exclude = self.list(Opt::OwnerGroupsExclude, parse);
            return (OwnerGroups::Any, exclude);
        }
        let exclude = self.value(Opt::OwnerGroupsExclude);
        if !exclude.text.is_empty() {
            self.warnings.push(format!(
                "{} {}: it has no effect: it counts only if {} is *",
                exclude.name(),
                Quoted(&exclude.text),
                Opt::OwnerGroups.name(),
            ));
        }
        let listed = self.list(Opt::OwnerGroups, parse);
        (OwnerGroups::List(listed), Vec::new())
    }

    fn include(&mut self) -> Include {
        if self.value(Opt::Include).text == "*" {
            return Include::Any;
        }
        Include::Cidrs(self.list(Opt::Include, parse_cidr))
    }

    fn exclude(&mut self) -> Vec<IpNet> {
        if self.is_refused(Opt::Exclude) {
            return Vec::new();
        }
        self.list(Opt::Exclude, parse_cidr)
    }

    fn exclude_interfaces(&mut self) -> Vec<Interface> {
        if self.is_refused(Opt::ExcludeInterfaces) {
            return Vec::new();
        }
        self.list(Opt::ExcludeInterfaces, parse_interface)
    }

    fn loopback4(&mut self) -> Ipv4Net {
        let value = self.value(Opt::LoopbackCidr);
        parse_loopback(&value.text).unwrap_or_else(|cause| {
            self.push_syntax_error(&value, cause);
            DEFAULT_LOOPBACK4
        })
    }

    fn dns(&mut self) -> Dns {
        let dns = Dns {
            redirect: self.value(Opt::RedirectDns).is_on(),
            capture_all: self.value(Opt::CaptureAllDns).is_on(),
            servers: self.list(Opt::DnsServers, parse_address),
        };
        for (option, is_given) in [
            (Opt::CaptureAllDns, dns.capture_all),
            (Opt::DnsServers, !dns.servers.is_empty()),
        ] {
            if is_given && !dns.redirect {
                self.warnings.push(format!(
                    "{}: it has no effect without {}",
                    self.value(option).name(),
                    Opt::RedirectDns.name(),
                ));
            }
        }
        dns
    }

    fn inbound(&mut self) -> Inbound {
        // Istio compares with "TPROXY" only; every other text means the default.
        let value = self.value(Opt::Mode);
        let mode = match value.text.as_str() {
            "TPROXY" => InboundMode::Tproxy,
            "REDIRECT" | "" => InboundMode::Redirect,
            other => {
                self.warnings.push(format!(
                    "{} {}: it means REDIRECT, as every word but TPROXY does",
                    value.name(),
                    Quoted(other),
                ));
                InboundMode::Redirect
            }
        };
        let include_ports = if self.value(Opt::InboundPorts).text == "*" {
            InboundPorts::Any
        } else {
            InboundPorts::List(self.list(Opt::InboundPorts, parse_port_range))
        };
        let exclude_ports: Vec<PortRange> = self.list(Opt::InboundExcludePorts, parse_port_range);
        Inbound {
            mode,
            include_ports,
            exclude_ports,
        }
    }
}

/// Parses a numeric uid or gid, with blanks around it. The highest number is the kernel's value for
/// "no such id".
fn parse_id(element: &str) -> Result<u32, ElementError> {
    let text = element.trim_matches([' ', '\t']);
    let decimal =
        text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse()
        .ok()
        .filter(|id| decimal && *id != u32::MAX)
        .ok_or_else(|| ElementError::new(element, Fault::NotAnId))
}

/// Parses an IPv4 range of loopback addresses. Istio accepts no prefix shorter than 8.
fn parse_loopback(text: &str) -> Result<Ipv4Net, ElementError> {
    match parse_cidr(text)? {
        IpNet::V4(net) if net.addr().is_loopback() && net.prefix_len() >= 8 => Ok(net),
        IpNet::V4(_) | IpNet::V6(_) => Err(ElementError::new(text, Fault::NotLoopback)),
    }
}

fn parse_address(element: &str) -> Result<IpAddr, ElementError> {
    element
        .parse()
        .map_err(|_error| ElementError::new(element, Fault::NotAnAddress))
}

/// Parses a group as iptables does: as a name, or as a gid if no group has that name.
fn parse_group(element: &str, groups: &impl Names) -> Result<u32, ElementError> {
    groups
        .id_of(element.trim_matches([' ', '\t']))
        .map_or_else(|| parse_id(element), Ok)
        .map_err(|error| ElementError::new(&error.element, Fault::NotAGroup))
}
