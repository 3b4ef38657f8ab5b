//! Strings to types: what a user writes becomes a [`RedirectConfig`], or an error that names the
//! option, the bad element and the remedy.
//!
//! The options, their defaults, their precedence and their list syntax are those of
//! `istio-iptables`, so that the arguments of an init container work unchanged. Nothing here reads
//! the process's environment, a file or the kernel: the caller hands in an [`Environment`], and
//! [`Names`] of users and groups, of which [`NameFile`] are those that read a file.
//!
//! Depends on: `ipnet`, `clap` and redirect-common. Used by: `policy` and the command line.

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
mod redirect;
mod refusal;
mod resolve;
mod texts;
mod value;

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
pub use redirect::{DEFAULT_LOOPBACK4, Include, OwnerGroups, ProxyIds, RedirectConfig};
pub use refusal::{REFUSALS, Reason, Refusal, When};
pub use resolve::{Resolved, resolve};
pub use texts::{OptionChange, changes};
pub use value::parse_bool;
