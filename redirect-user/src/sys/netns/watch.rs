//! Notifications about changes of a network namespace.

use anyhow::{Context as _, Result};
use futures_util::StreamExt as _;
use rtnetlink::{MulticastGroup, new_multicast_connection};
use tokio::{runtime::Handle, task::JoinHandle};

use super::open::NetnsHandle;

/// The groups in which the kernel announces changes of addresses and of the routes that make them
/// local. Taking an interface down removes routes without a message about them, hence the links.
const GROUPS: [MulticastGroup; 5] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
];

/// A subscription, which ends when it is dropped. It keeps the namespace alive.
#[derive(Debug)]
pub struct Watch(JoinHandle<()>);

impl Watch {
    /// Whether the kernel has ended the subscription. A change may then have gone unnoticed.
    pub fn is_over(&self) -> bool {
        self.0.is_finished()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl NetnsHandle {
    /// Calls `notify` after every later change of links, addresses and routes, and when the kernel
    /// had more messages than the socket could hold. Needs a tokio runtime around it.
    pub fn watch(&self, mut notify: impl FnMut() + Send + 'static) -> Result<Watch> {
        let runtime = Handle::current();
        let (connection, _handle, mut messages) = self
            .inside(|| {
                // A socket belongs to the namespace it is created in, whichever thread uses it
                // afterwards.
                let _guard = runtime.enter();
                new_multicast_connection(&GROUPS).context("open a netlink socket")
            })
            .with_context(|| format!("watch network namespace \"{}\"", self.name()))?;
        let forward = async move {
            while messages.next().await.is_some() {
                notify();
            }
        };
        Ok(Watch(runtime.spawn(async {
            futures_util::future::join(connection, forward).await;
        })))
    }
}
