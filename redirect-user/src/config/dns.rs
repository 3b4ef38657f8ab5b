//! Which queries of resolvers are redirected.

use std::net::IpAddr;

use serde::Serialize;

/// Which queries of resolvers go to the mesh's own resolver.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Dns {
    /// Whether any do (`--redirect-dns`).
    pub redirect: bool,
    /// Those to any resolver, not only to the listed ones (`--capture-all-dns`).
    pub capture_all: bool,
    /// The resolvers, unless all count.
    pub servers: Vec<IpAddr>,
}

impl Dns {
    /// Whether anything is redirected: without a resolver nothing is, as with Istio.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.redirect && (self.capture_all || !self.servers.is_empty())
    }

    /// The resolvers that count.
    #[must_use]
    pub fn listed(&self) -> &[IpAddr] {
        if self.redirect && !self.capture_all {
            &self.servers
        } else {
            &[]
        }
    }
}
