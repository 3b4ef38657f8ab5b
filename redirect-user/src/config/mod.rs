//! From text to types: the options that a user writes become a [`RedirectConfig`], or an error that
//! names the option, the bad element and the remedy.
//!
//! The options, their defaults, their precedence and their list syntax are those of
//! `istio-iptables`, so that the arguments of an init container work unchanged. This module reads
//! neither the process's environment nor the kernel. The caller passes in an [`Environment`], and
//! [`Names`] to look up users and groups; [`NameFile`] looks them up in a file.

mod boolean;
mod cidr;
mod dns;
mod element;
mod environment;
mod error;
mod flags;
mod inbound;
mod interface;
mod names;
mod notice;
mod option;
mod ports;
mod reason;
mod redirect;
mod refusal;
mod resolve;
mod texts;
mod value;

pub use boolean::parse_bool;
pub use cidr::{
    CidrListError, LineError, entries, parse_cidr, parse_cidr_arguments, parse_cidr_file,
};
pub use dns::Dns;
pub use element::{ElementError, Fault};
pub use environment::Environment;
pub use error::{ConfigError, Problem};
pub use flags::Flags;
pub use inbound::{Inbound, InboundMode, InboundPorts};
pub use interface::Interface;
pub use names::{NameFile, Names};
pub use notice::{NOTICES, Notice};
pub use option::{Bound, Group, Kind, Opt, Spec};
pub use ports::{PortRange, parse_port_range};
pub use reason::Reason;
pub use redirect::{DEFAULT_LOOPBACK4, Include, OwnerGroups, ProxyIds, RedirectConfig};
pub use refusal::{REFUSALS, Refusal, When};
pub use resolve::{Resolved, resolve};
pub use texts::{OptionChange, changes};
