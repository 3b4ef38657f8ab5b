//! Which resolvers' queries are captured, where that is for the pod to say.

use std::net::IpAddr;

use anyhow::{Context as _, Result, anyhow};

use crate::{
    config::RedirectConfig,
    sys::{
        cgroup::Cgroup,
        netns::NetnsRef,
        resolv_conf::{own_resolvers, resolvers_of},
    },
};

/// Whose `/etc/resolv.conf` it is.
#[derive(Clone, Copy, Debug)]
pub enum ResolvConf<'a> {
    /// That of a process of the cgroup, or of the one that names its namespace.
    Pod {
        /// The cgroup.
        cgroup: &'a Cgroup,
        /// How its namespace is named, if it is.
        netns: Option<&'a NetnsRef>,
    },
    /// The caller.
    Own,
}

/// Fills in the resolvers if DNS is captured, that of any resolver is not, and none is given. If
/// there is none, DNS is not captured, as with Istio; the sentence returned says so.
pub fn find_resolvers(
    config: &mut RedirectConfig,
    asker: ResolvConf<'_>,
) -> Result<Option<String>> {
    let dns = &mut config.dns;
    if !dns.redirect || dns.capture_all || !dns.servers.is_empty() {
        return Ok(None);
    }
    dns.servers = asker.resolvers().context(
        "find the pod's resolvers (--dns-servers names them, --capture-all-dns needs none)",
    )?;
    dns.redirect = !dns.servers.is_empty();
    Ok((!dns.redirect).then(|| {
        "DNS is not captured: /etc/resolv.conf names no resolver (--dns-servers does)".to_owned()
    }))
}

impl ResolvConf<'_> {
    fn resolvers(self) -> Result<Vec<IpAddr>> {
        let cgroup = match self {
            Self::Own => return own_resolvers(),
            Self::Pod {
                netns: Some(NetnsRef::Pid(pid)),
                ..
            } => return resolvers_of(*pid),
            Self::Pod { cgroup, .. } => cgroup,
        };
        let mut last = None;
        // The first that answers: one may have ended since.
        for pid in cgroup.processes() {
            match resolvers_of(pid) {
                Ok(resolvers) => return Ok(resolvers),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| {
            anyhow!(
                "no process is in cgroup \"{}\" to see its /etc/resolv.conf by",
                cgroup.path().display()
            )
        }))
    }
}
