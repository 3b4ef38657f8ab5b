//! What both ends of a connection can see, in a form that two pods can be compared by.

use std::net::{IpAddr, SocketAddr};

use redirect_common::chain::Verdict;
use redirect_testkit::{Answer, DialOutcome, DialReport, FlowEnds};
use redirect_user::config::RedirectConfig;

use crate::harness::DNS_PORT;

/// A connection as both of its ends saw it. Source ports are left out: they are the kernel's
/// choice.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct View {
    /// The server's name, or why there was none.
    pub(crate) outcome: String,
    /// The original destination, as a redirected server was told it.
    pub(crate) orig_dst: Option<SocketAddr>,
    /// Both of the server's addresses at the server.
    pub(crate) server: Option<(IpAddr, SocketAddr)>,
    /// Both of the client's addresses at the client.
    pub(crate) client: Option<(IpAddr, SocketAddr)>,
    /// Whether the client's port is the same at both ends.
    pub(crate) is_one_port: bool,
}

impl View {
    pub(crate) fn of(dialled: &DialReport) -> Self {
        let banner = dialled.banner();
        let outcome = match (&dialled.outcome, banner) {
            (_, Some(banner)) => banner.server.clone(),
            (DialOutcome::Connected(Answer::Silent), _) => "silence".to_owned(),
            (DialOutcome::Connected(_), None) => "closed".to_owned(),
            (DialOutcome::Refused, _) => "ECONNREFUSED".to_owned(),
            (DialOutcome::Failed { name, .. }, _) => name.clone(),
        };
        let (peer, local) = banner.map_or((None, None), |banner| (banner.peer, banner.local));
        let is_proxy = outcome.starts_with("out") || outcome.starts_with("in");
        let told = banner.and_then(|banner| banner.orig_dst);
        Self {
            outcome,
            orig_dst: comparable(told, local, is_proxy),
            server: peer.map(|peer| peer.ip()).zip(local),
            client: dialled
                .sockname
                .map(|sockname| sockname.ip())
                .zip(dialled.peername),
            is_one_port: banner.is_some()
                && peer.map(|peer| peer.port()) == dialled.sockname.map(|sockname| sockname.port()),
        }
    }

    /// The same of a connection by its ends. `name` is of the listener, and `is_proxy` whether it is
    /// where the proxy is told to listen.
    pub(crate) fn of_ends(name: String, is_proxy: bool, ends: &FlowEnds) -> Self {
        let port = |addr: Option<SocketAddr>| addr.map(|addr| addr.port());
        Self {
            outcome: name,
            orig_dst: comparable(ends.orig_dst.ok().flatten(), ends.server_local, is_proxy),
            server: ends
                .server_peer
                .map(|peer| peer.ip())
                .zip(ends.server_local),
            client: ends
                .client_local
                .map(|local| local.ip())
                .zip(ends.client_peer),
            is_one_port: port(ends.server_peer) == port(ends.client_local),
        }
    }

    /// Of a connection that did not come about.
    pub(crate) const fn of_nothing(why: String) -> Self {
        Self {
            outcome: why,
            orig_dst: None,
            server: None,
            client: None,
            is_one_port: false,
        }
    }

    /// Of a connection behind iptables, which change the client's port on its way to the proxy if
    /// another connection there has it already. We never do.
    pub(crate) fn of_iptables(dialled: &DialReport) -> Self {
        Self::of(dialled).with_one_port()
    }

    /// The same, as if iptables had not changed the client's port.
    pub(crate) fn with_one_port(self) -> Self {
        Self {
            is_one_port: self.server.is_some(),
            ..self
        }
    }

    /// What iptables did with the connection, as far as it can be told: they do not see what has no
    /// route, and who dials the proxy's very address reaches it one way or the other.
    pub(crate) fn verdict(&self, config: &RedirectConfig) -> Option<Verdict> {
        let local = self.server.map(|(_, local)| local);
        if self.outcome == "EINVAL" || (local.is_some() && self.orig_dst == local) {
            return None;
        }
        let redirected = local.filter(|_| self.is_redirected());
        Some(match redirected.map(|local| local.port()) {
            Some(port) if port == config.out_port => Verdict::Out,
            Some(port) if port == config.in_port => Verdict::In,
            Some(DNS_PORT) => Verdict::Dns,
            _ => Verdict::Direct,
        })
    }

    /// Whether somebody else answered than who was dialled.
    pub(crate) fn is_redirected(&self) -> bool {
        let local = self.server.map(|(_, local)| local);
        self.orig_dst.is_some_and(|told| Some(told) != local)
    }

    /// In how many respects two views differ.
    pub(crate) fn distance(&self, other: &Self) -> usize {
        [
            self.outcome != other.outcome,
            self.orig_dst != other.orig_dst,
            self.server != other.server,
            self.client != other.client,
            self.is_one_port != other.is_one_port,
        ]
        .into_iter()
        .filter(|differs| *differs)
        .count()
    }
}

/// Conntrack answers any server, with the server's own address if nothing was redirected; the
/// programs answer only those at the proxy's ports.
fn comparable(
    told: Option<SocketAddr>,
    local: Option<SocketAddr>,
    is_proxy: bool,
) -> Option<SocketAddr> {
    told.filter(|told| is_proxy || Some(*told) != local)
}
