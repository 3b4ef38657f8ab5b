//! Being told when a network namespace changes.

use anyhow::{Context as _, Result};
use futures_util::StreamExt as _;
use rtnetlink::{MulticastGroup, new_multicast_connection};
use tokio::{runtime::Handle, task::JoinHandle};

use super::NetnsHandle;

/// What an address, or the route that makes it the namespace's own, can come and go with. Taking
/// an interface down removes routes without a word about them; hence the links.
const GROUPS: [MulticastGroup; 5] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
];

/// A subscription; it ends when dropped. It keeps the namespace alive.
#[derive(Debug)]
pub struct Watch(JoinHandle<()>);

impl Watch {
    /// Whether the kernel has ended it; then a change may have gone untold.
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
    /// Calls `tell` after every change of links, addresses and routes from now on; also when the
    /// kernel had more to tell than could be taken. Needs a tokio runtime around it.
    pub fn watch(&self, mut tell: impl FnMut() + Send + 'static) -> Result<Watch> {
        let runtime = Handle::current();
        let (connection, _handle, mut messages) = self
            .inside(|| {
                // A socket belongs to the namespace it is made in, whoever uses it afterwards.
                let _guard = runtime.enter();
                new_multicast_connection(&GROUPS).context("open a netlink socket")
            })
            .with_context(|| format!("watch network namespace \"{}\"", self.name()))?;
        let telling = async move {
            while messages.next().await.is_some() {
                tell();
            }
        };
        Ok(Watch(runtime.spawn(async {
            futures_util::future::join(connection, telling).await;
        })))
    }
}
