//! Flags and environment to a configuration.

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

/// The proxy's uid where nothing says otherwise.
const DEFAULT_UID: u32 = 1337;

/// A usable configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The configuration.
    pub config: RedirectConfig,
    /// What was accepted without (full) effect, one sentence each, naming the option.
    pub warnings: Vec<String>,
}

/// Applies flags over environment over defaults, and reports every problem at once.
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
    let (proxy_uids, proxy_gids) = reader.owner(users);
    let (owner_groups, owner_groups_exclude) = reader.owner_groups(groups);
    let config = RedirectConfig {
        out_port: reader.one(Opt::OutPort, parse_listener),
        in_port: reader.one(Opt::InPort, parse_listener),
        tunnel_port: reader.one(Opt::TunnelPort, parse_single_port),
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
        dual_stack: reader.given(Opt::DualStack).is_on(),
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

/// The problems in the order of the options.
fn sorted(mut problems: Vec<(Opt, Problem)>) -> ConfigError {
    problems.sort_by_key(|(option, _)| *option);
    ConfigError {
        problems: problems.into_iter().map(|(_, problem)| problem).collect(),
    }
}

/// Reads options one by one and collects what is wrong with them; a value that cannot be read is
/// replaced by its type's default, which nobody will see.
struct OptionReader<'a> {
    flags: &'a Flags,
    environment: &'a Environment,
    problems: Vec<(Opt, Problem)>,
    warnings: Vec<String>,
}

impl OptionReader<'_> {
    fn given(&self, option: Opt) -> OptionValue {
        OptionValue::of(option, self.flags, self.environment)
    }

    fn check(&mut self, option: Opt) {
        let given = self.given(option);
        self.problems
            .extend(refusals(&given).map(|problem| (option, problem)));
        self.warnings.extend(notices(&given));
    }

    /// Whether the value is refused already, so that its syntax does not matter.
    fn is_refused(&self, option: Opt) -> bool {
        self.problems.iter().any(|(refused, _)| *refused == option)
    }

    fn syntax(&mut self, given: &OptionValue, cause: ElementError) {
        let (option, value) = (given.name(), given.text.clone());
        self.problems.push((
            given.option,
            Problem::Syntax {
                option,
                value,
                cause,
            },
        ));
    }

    fn one(&mut self, option: Opt, parse: impl Fn(&str) -> Result<u16, ElementError>) -> u16 {
        let given = self.given(option);
        parse(&given.text).unwrap_or_else(|cause| {
            self.syntax(&given, cause);
            0
        })
    }

    fn list<T>(&mut self, option: Opt, parse: impl Fn(&str) -> Result<T, ElementError>) -> Vec<T> {
        let given = self.given(option);
        parse_list(&given.text, parse).unwrap_or_else(|causes| {
            for cause in causes {
                self.syntax(&given, cause);
            }
            Vec::new()
        })
    }

    /// The uids, and the gids, which are a copy of the uids' text unless given.
    fn owner(&mut self, users: &impl Names) -> (ProxyIds, ProxyIds) {
        let uids = match self.ids(Opt::ProxyUid) {
            Some(uids) => uids,
            None => users
                .id_of(&self.given(Opt::EnvoyUser).text)
                .unwrap_or(DEFAULT_UID)
                .into(),
        };
        let gids = self.ids(Opt::ProxyGid).unwrap_or_else(|| uids.clone());
        (uids, gids)
    }

    /// Uids or gids; `None` if the value is empty.
    fn ids(&mut self, option: Opt) -> Option<ProxyIds> {
        let given = self.given(option);
        if given.text.is_empty() || self.is_refused(option) {
            return None;
        }
        // Istio drops empty elements, so "1337," is one id, and "," none at all.
        let ids = parse_list(&given.text, parse_id).unwrap_or_else(|causes| {
            for cause in causes {
                self.syntax(&given, cause);
            }
            vec![DEFAULT_UID]
        });
        if ids.is_empty() {
            self.syntax(&given, ElementError::new(&given.text, Fault::NotAnId));
        }
        ProxyIds::new(ids)
    }

    /// The groups that are redirected, and those that are not.
    fn owner_groups(&mut self, groups: &impl Names) -> (OwnerGroups, Vec<u32>) {
        let parse = |element: &str| parse_group(element, groups);
        if self.given(Opt::OwnerGroups).text == "*" {
            let exclude = self.list(Opt::OwnerGroupsExclude, parse);
            return (OwnerGroups::Any, exclude);
        }
        let exclude = self.given(Opt::OwnerGroupsExclude);
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
        if self.given(Opt::Include).text == "*" {
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
        let given = self.given(Opt::LoopbackCidr);
        parse_loopback(&given.text).unwrap_or_else(|cause| {
            self.syntax(&given, cause);
            DEFAULT_LOOPBACK4
        })
    }

    fn dns(&mut self) -> Dns {
        let dns = Dns {
            redirect: self.given(Opt::RedirectDns).is_on(),
            capture_all: self.given(Opt::CaptureAllDns).is_on(),
            servers: self.list(Opt::DnsServers, parse_address),
        };
        for (option, is_given) in [
            (Opt::CaptureAllDns, dns.capture_all),
            (Opt::DnsServers, !dns.servers.is_empty()),
        ] {
            if is_given && !dns.redirect {
                self.warnings.push(format!(
                    "{}: it has no effect without {}",
                    self.given(option).name(),
                    Opt::RedirectDns.name(),
                ));
            }
        }
        dns
    }

    fn inbound(&mut self) -> Inbound {
        // Istio compares with this one text; every other means the default.
        let given = self.given(Opt::Mode);
        let mode = match given.text.as_str() {
            "TPROXY" => InboundMode::Tproxy,
            "REDIRECT" | "" => InboundMode::Redirect,
            other => {
                self.warnings.push(format!(
                    "{} {}: it means REDIRECT, as every word but TPROXY does",
                    given.name(),
                    Quoted(other),
                ));
                InboundMode::Redirect
            }
        };
        let include_ports = if self.given(Opt::InboundPorts).text == "*" {
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

/// A numeric uid or gid, with blanks around it. The highest number is the kernel's "nobody at all".
fn parse_id(element: &str) -> Result<u32, ElementError> {
    let text = element.trim_matches([' ', '\t']);
    let decimal =
        text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse()
        .ok()
        .filter(|id| decimal && *id != u32::MAX)
        .ok_or_else(|| ElementError::new(element, Fault::NotAnId))
}

/// An IPv4 range of loopback addresses. Istio takes no shorter prefix than that of all of them.
fn parse_loopback(text: &str) -> Result<Ipv4Net, ElementError> {
    match parse_cidr(text)? {
        IpNet::V4(net) if net.addr().is_loopback() && net.prefix_len() >= 8 => Ok(net),
        IpNet::V4(_) | IpNet::V6(_) => Err(ElementError::new(text, Fault::NotLoopback)),
    }
}

fn parse_address(element: &str) -> Result<IpAddr, ElementError> {
    element
        .parse()
        .map_err(|_not_one| ElementError::new(element, Fault::NotAnAddress))
}

/// A group by its name or, if there is none of that name, by its gid: the order of iptables.
fn parse_group(element: &str, groups: &impl Names) -> Result<u32, ElementError> {
    groups
        .id_of(element.trim_matches([' ', '\t']))
        .map_or_else(|| parse_id(element), Ok)
        .map_err(|error| ElementError::new(&error.element, Fault::NotAGroup))
}
