//! The DNS queries that are redirected.

use std::net::IpAddr;

use serde::Serialize;

/// The DNS queries that go to the mesh's own resolver.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Dns {
    /// Whether any queries are redirected (`--redirect-dns`).
    pub redirect: bool,
    /// Whether queries to every resolver are redirected, not only to the listed ones
    /// (`--capture-all-dns`).
    pub capture_all: bool,
    /// The resolvers whose queries are redirected, unless `capture_all`.
    pub servers: Vec<IpAddr>,
}

impl Dns {
    /// Whether any query is redirected. Without a resolver none is, as with Istio.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.redirect && (self.capture_all || !self.servers.is_empty())
    }

    /// The listed resolvers, if the list has an effect.
    #[must_use]
    pub fn listed(&self) -> &[IpAddr] {
        if self.redirect && !self.capture_all {
            &self.servers
        } else {
            &[]
        }
    }
}
