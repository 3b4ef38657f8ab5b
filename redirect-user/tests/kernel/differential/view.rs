//! The view of a connection from both of its ends, comparable between two pods.

use std::net::{IpAddr, SocketAddr};

use redirect_common::chain::Verdict;
use redirect_testkit::{Answer, DialOutcome, DialReport, FlowEnds};
use redirect_user::config::RedirectConfig;

use crate::harness::DNS_PORT;

/// A connection as both of its ends see it. Source ports are left out, because the kernel chooses them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct View {
    /// The server's name, or the reason why no server answered.
    pub(crate) outcome: String,
    /// The original destination that a server sees of a redirected connection.
    pub(crate) orig_dst: Option<SocketAddr>,
    /// Both addresses at the server: the client's and the server's own.
    pub(crate) server: Option<(IpAddr, SocketAddr)>,
    /// Both addresses at the client: the client's own and the server's.
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
        let seen = banner.and_then(|banner| banner.orig_dst);
        Self {
            outcome,
            orig_dst: comparable(seen, local, is_proxy),
            server: peer.map(|peer| peer.ip()).zip(local),
            client: dialled
                .sockname
                .map(|sockname| sockname.ip())
                .zip(dialled.peername),
            is_one_port: banner.is_some()
                && peer.map(|peer| peer.port()) == dialled.sockname.map(|sockname| sockname.port()),
        }
    }

    /// The view of a flow by its ends. `name` is the listener's, and `is_proxy` tells whether the listener is at a
    /// configured port of the proxy.
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

    /// The view of a connection that was not established.
    pub(crate) const fn of_nothing(why: String) -> Self {
        Self {
            outcome: why,
            orig_dst: None,
            server: None,
            client: None,
            is_one_port: false,
        }
    }

    /// The view of a connection behind iptables. iptables change the client's port on the way to the proxy if another
    /// connection has it there already; the programs never do.
    pub(crate) fn of_iptables(dialled: &DialReport) -> Self {
        Self::of(dialled).with_one_port()
    }

    /// The view as if iptables had not changed the client's port.
    pub(crate) fn with_one_port(self) -> Self {
        Self {
            is_one_port: self.server.is_some(),
            ..self
        }
    }

    /// The verdict of iptables about the connection, if the view tells it. iptables do not see a connection without a
    /// route, and a client that dials the proxy's own address reaches the proxy in any case.
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

    /// Whether another server answered than the dialled one.
    pub(crate) fn is_redirected(&self) -> bool {
        let local = self.server.map(|(_, local)| local);
        self.orig_dst.is_some_and(|seen| Some(seen) != local)
    }

    /// The number of fields in which two views differ.
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

/// Makes original destinations comparable. Conntrack answers any server, with the server's own address if the
/// connection was not redirected; the programs answer only servers at the proxy's ports.
fn comparable(
    orig_dst: Option<SocketAddr>,
    local: Option<SocketAddr>,
    is_proxy: bool,
) -> Option<SocketAddr> {
    orig_dst.filter(|seen| is_proxy || Some(*seen) != local)
}
