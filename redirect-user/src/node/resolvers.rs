//! The resolvers whose queries are captured, if the configuration leaves them to the pod.

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

/// The owner of the `/etc/resolv.conf` that names the resolvers.
#[derive(Clone, Copy, Debug)]
pub enum ResolvConf<'a> {
    /// A process of the cgroup, or the process that names its namespace.
    Pod {
        /// The cgroup.
        cgroup: &'a Cgroup,
        /// The name of the network namespace, if it was named.
        netns: Option<&'a NetnsRef>,
    },
    /// The calling process.
    Own,
}

/// Fills in the resolvers if DNS is captured, but not for all resolvers, and none is listed. If
/// `/etc/resolv.conf` names none, DNS is not captured, as with Istio; the returned sentence says
/// so.
pub fn find_resolvers(
    config: &mut RedirectConfig,
    source: ResolvConf<'_>,
) -> Result<Option<String>> {
    let dns = &mut config.dns;
    if !dns.redirect || dns.capture_all || !dns.servers.is_empty() {
        return Ok(None);
    }
    dns.servers = source.resolvers().context(
        "find the pod's resolvers (--dns-servers names them, --capture-all-dns needs none)",
    )?;
    dns.redirect = !dns.servers.is_empty();
    Ok((!dns.redirect).then(|| {
        "DNS is not captured: /etc/resolv.conf names no resolver (--dns-servers names some)"
            .to_owned()
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
        // The first process that can be read counts; others may have ended.
        for pid in cgroup.processes() {
            match resolvers_of(pid) {
                Ok(resolvers) => return Ok(resolvers),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| {
            anyhow!(
                "no process is in cgroup \"{}\" whose /etc/resolv.conf could be read",
                cgroup.path().display()
            )
        }))
    }
}
