//! The live maps as the decision reads them: each lookup is the kernel's own.

use std::cell::RefCell;

use anyhow::Error;
use redirect_common::{
    abi::{CidrFlags, GroupFlags, LocalFlags, PolicyRow, PortFlags, PortKey},
    facts::PolicyView,
    net::{BeAddr, BePort},
};

use super::Maps;

/// A pod's policy, looked up in the live maps.
#[derive(Debug)]
pub struct LiveView<'maps> {
    maps: &'maps Maps,
    row: PolicyRow,
    /// The decision's interface has no errors, so the first one waits here.
    error: RefCell<Option<Error>>,
}

impl<'maps> LiveView<'maps> {
    /// A view with a pod's row.
    pub const fn new(maps: &'maps Maps, row: &PolicyRow) -> Self {
        Self {
            maps,
            row: *row,
            error: RefCell::new(None),
        }
    }

    /// The first lookup that failed, if any did.
    pub fn finish(self) -> Result<(), Error> {
        self.error.into_inner().map_or(Ok(()), Err)
    }

    fn note<T: Default>(&self, result: Result<T, Error>) -> T {
        result.unwrap_or_else(|error| {
            self.error.borrow_mut().get_or_insert(error);
            T::default()
        })
    }
}

impl PolicyView for LiveView<'_> {
    fn row(&self) -> &PolicyRow {
        &self.row
    }

    fn cidr(&self, addr: BeAddr) -> CidrFlags {
        self.note(self.maps.cidr(self.row.policy, addr))
    }

    fn port(&self, port: BePort) -> PortFlags {
        let key = PortKey::outbound_tcp(self.row.policy, port);
        self.note(self.maps.port(key))
    }

    fn in_port(&self, port: BePort) -> PortFlags {
        let key = PortKey::inbound_tcp(self.row.policy, port);
        self.note(self.maps.port(key))
    }

    fn group(&self, gid: u32) -> GroupFlags {
        self.note(self.maps.group(self.row.policy, gid))
    }

    fn local(&self, addr: BeAddr) -> LocalFlags {
        self.note(self.maps.local(self.row.netns, addr))
    }
}
