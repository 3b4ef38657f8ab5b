//! What both ends of a connection can see, in a form that two pods can be compared by.

use std::net::{IpAddr, SocketAddr};

use redirect_testkit::{Answer, Dialled, Outcome};

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
    pub(crate) fn of(dialled: &Dialled) -> Self {
        let greeting = dialled.greeting();
        let outcome = match (&dialled.outcome, greeting) {
            (_, Some(greeting)) => greeting.server.clone(),
            (Outcome::Connected(Answer::Silent), _) => "silence".to_owned(),
            (Outcome::Connected(_), None) => "closed".to_owned(),
            (Outcome::Refused, _) => "ECONNREFUSED".to_owned(),
            (Outcome::Failed { name, .. }, _) => name.clone(),
        };
        let (peer, local) =
            greeting.map_or((None, None), |greeting| (greeting.peer, greeting.local));
        // Conntrack answers any server, with the server's own address if nothing was redirected;
        // the programs answer only those at the proxy's ports.
        let is_proxy = outcome.starts_with("out") || outcome.starts_with("in");
        let orig_dst = greeting
            .and_then(|greeting| greeting.orig_dst)
            .filter(|told| is_proxy || Some(*told) != local);
        Self {
            outcome,
            orig_dst,
            server: peer.map(|peer| peer.ip()).zip(local),
            client: dialled
                .sockname
                .map(|sockname| sockname.ip())
                .zip(dialled.peername),
            is_one_port: greeting.is_some()
                && peer.map(|peer| peer.port()) == dialled.sockname.map(|sockname| sockname.port()),
        }
    }

    /// Of a connection behind iptables, which change the client's port on its way to the proxy if
    /// another connection there has it already. We never do.
    pub(crate) fn of_iptables(dialled: &Dialled) -> Self {
        let is_one_port = dialled.greeting().is_some();
        Self {
            is_one_port,
            ..Self::of(dialled)
        }
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
