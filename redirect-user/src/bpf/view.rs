//! The live maps as input of the decision: each lookup is a system call, so the kernel's own lookup
//! gives the answer.

use std::cell::RefCell;

use anyhow::Error;
use redirect_common::{
    abi::{CidrFlags, GroupFlags, LocalFlags, PolicyRow, PortFlags, PortKey},
    facts::PolicyView,
    net::{BeAddr, BePort},
};

use super::maps::Maps;

/// The policy of a pod, looked up in the live maps.
#[derive(Debug)]
pub struct LiveView<'maps> {
    maps: &'maps Maps,
    row: PolicyRow,
    /// The first error of a lookup. The trait's methods cannot return errors.
    error: RefCell<Option<Error>>,
}

impl<'maps> LiveView<'maps> {
    /// Creates the view of a pod with this row.
    pub const fn new(maps: &'maps Maps, row: &PolicyRow) -> Self {
        Self {
            maps,
            row: *row,
            error: RefCell::new(None),
        }
    }

    /// Fails with the error of the first lookup that failed.
    pub fn finish(self) -> Result<(), Error> {
        self.error.into_inner().map_or(Ok(()), Err)
    }

    fn record_error<T: Default>(&self, result: Result<T, Error>) -> T {
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
        self.record_error(self.maps.cidr(self.row.policy, addr))
    }

    fn port(&self, port: BePort) -> PortFlags {
        let key = PortKey::outbound_tcp(port);
        self.record_error(self.maps.port(self.row.policy, key))
    }

    fn in_port(&self, port: BePort) -> PortFlags {
        let key = PortKey::inbound_tcp(port);
        self.record_error(self.maps.port(self.row.policy, key))
    }

    fn group(&self, gid: u32) -> GroupFlags {
        self.record_error(self.maps.group(self.row.policy, gid))
    }

    fn local(&self, addr: BeAddr) -> LocalFlags {
        self.record_error(self.maps.local(self.row.netns, addr))
    }
}
