//! The redirection of inbound connections by a lookup program in the pod's network namespace.
//!
//! The pod's row contains the policy; the lookup program reads the inbound row, a copy of it. The
//! copy is written after the pod's row and removed before it. A change that is interrupted in
//! between is completed by the next writer ([`Writer::sync_inbound`]). For this the program stays
//! attached as long as the pod's row says that inbound connections are redirected.

use std::{collections::BTreeSet, os::fd::AsFd as _};

use anyhow::{Context as _, Result, anyhow};
use redirect_common::{abi::PolicyRow, hooks::Hook};

use super::{
    reader::Pod,
    writer::{AttachError, Writer},
};
use crate::{
    bpf,
    config::RedirectConfig,
    sys::{
        attached::netns_of_link,
        bpf::remove,
        cgroup::{self, Cgroup, CgroupId},
        kernel_features::kernel_features,
        listeners,
        netns::NetnsSnapshot,
    },
};

impl Writer {
    /// Refuses a configuration whose inbound part is not possible for a pod. `pod` is the attached
    /// pod, if it is attached; `netns` is the namespace that the pod has or will have, if it is
    /// known.
    pub(super) fn check_inbound(
        &self,
        id: CgroupId,
        pod: Option<&Pod>,
        netns: Option<&NetnsSnapshot>,
        config: &RedirectConfig,
    ) -> Result<(), AttachError> {
        if !config.redirects_inbound() {
            return Ok(());
        }
        if !config.exclude_interfaces.is_empty() && !kernel_features().ingress_ifindex() {
            return Err(anyhow!("exclude interfaces (-c) from inbound redirection (-b): this kernel does not tell programs by which interface a connection arrives: use Linux 5.17 or newer, or leave -c or -b out").into());
        }
        if netns.is_some_and(|netns| netns.is_initial) {
            return Err(anyhow!("redirect inbound connections (-b): the network namespace is the machine's own, so every connection to the machine would go to this pod's proxy: name the pod's namespace with --netns, or leave -b out").into());
        }
        if pod.is_some_and(|pod| {
            pod.row.flags.inbound() && netns.is_some_and(|netns| netns.cookie != pod.row.netns)
        }) {
            return Err(anyhow!("redirect inbound connections (-b) of another network namespace: those of the pod's present namespace are redirected: detach the pod, then attach it with the other one").into());
        }
        let cookie = match (netns, pod) {
            (Some(netns), _) => netns.cookie,
            (None, Some(pod)) if self.inbound_inode(id)?.is_some() => pod.row.netns,
            (None, _) => return Err(AttachError::NoNetns("redirect inbound connections (-b)")),
        };
        let others = self.pods()?;
        let Some(other) = others
            .iter()
            .find(|other| other.id != id && other.row.flags.inbound() && other.row.netns == cookie)
        else {
            return Ok(());
        };
        let path = cgroup::find(&[other.id])?.pop().flatten();
        let shown = path.map_or_else(
            || format!("with id {}", other.id),
            |path| format!("\"{}\"", path.display()),
        );
        Err(anyhow!("redirect inbound connections (-b): those of this network namespace go to the proxy of cgroup {shown} already: leave -b out here, or there").into())
    }

    /// Prepares everything that inbound redirection needs except the rows, so nothing is redirected
    /// yet. Without `netns`, the namespace is the one that the program is attached to, whose cookie
    /// is `cookie`. `port` is the proxy's inbound port.
    pub(super) fn prepare_inbound(
        &mut self,
        cgroup: &Cgroup,
        netns: Option<&NetnsSnapshot>,
        cookie: u64,
        port: u16,
    ) -> Result<()> {
        if let Some(netns) = netns {
            self.attach_inbound(cgroup.id(), netns)?;
        }
        self.store_listeners(cgroup, cookie, port)
    }

    /// Attaches a pod's lookup program to a namespace, unless it is attached there already.
    fn attach_inbound(&mut self, id: CgroupId, netns: &NetnsSnapshot) -> Result<()> {
        let file = netns.file.as_ref().context("reach the network namespace")?;
        if self.inbound_inode(id)? == Some(file.inode()) {
            return Ok(());
        }
        // The program is attached to another namespace, or to one that is gone.
        self.remove_inbound(id)?;
        self.reader.maps.inbound_mut().clear_hits(id)?;
        bpf::attach_inbound(&self.pins, id, file.as_fd())
    }

    /// Brings inbound redirection in line with a pod's row. Without a cgroup no listening sockets
    /// are looked for: they were stored for an earlier row with the same port.
    pub(super) fn sync_inbound(&mut self, pod: &Pod, cgroup: Option<&Cgroup>) -> Result<()> {
        let Pod { id, row } = *pod;
        if !row.flags.inbound() || self.inbound_inode(id)?.is_none() {
            return self.remove_inbound(id);
        }
        // Again, because sockets may have begun to listen before the pod's row asked for them. An
        // error was reported when this was prepared, and must not prevent a later writer from
        // completing the change.
        if let Some(cgroup) = cgroup {
            drop(self.store_listeners(cgroup, row.netns, row.in_port.get()));
        }
        // The new row must not reuse the memory of a row that a program may still read.
        self.wait_for_readers()?;
        self.mark_row_freed(id)?;
        self.reader.maps.inbound_mut().set_row(id, &row)
    }

    /// Notes that the pod's inbound row, if any, is about to be replaced or removed.
    fn mark_row_freed(&mut self, id: CgroupId) -> Result<()> {
        if self.maps.inbound().row(id)?.is_some() {
            self.mark_freed();
        }
        Ok(())
    }

    /// The inode of the network namespace that a pod's lookup program is attached to.
    fn inbound_inode(&self, id: CgroupId) -> Result<Option<u64>> {
        let link = self.pins.link(id, Hook::SkLookup);
        if link.exists() {
            netns_of_link(&link)
        } else {
            Ok(None)
        }
    }

    /// Stores the sockets of a pod's processes that listen at the proxy's inbound port.
    fn store_listeners(&mut self, cgroup: &Cgroup, netns: u64, port: u16) -> Result<()> {
        let Some(inode) = self.inbound_inode(cgroup.id())? else {
            return Ok(());
        };
        let found = listeners::find(&cgroup.processes(), inode, port)?;
        self.reader
            .maps
            .inbound_mut()
            .add_listeners(netns, port, &found)
    }

    /// Ends a pod's inbound redirection. The program and the listening sockets stay.
    pub(super) fn deactivate_inbound(&mut self, id: CgroupId) -> Result<()> {
        self.mark_row_freed(id)?;
        self.reader.maps.inbound_mut().remove_row(id)
    }

    /// Ends a pod's inbound redirection, and removes its program and counters.
    pub(super) fn remove_inbound(&mut self, id: CgroupId) -> Result<()> {
        self.deactivate_inbound(id)?;
        self.reader.maps.inbound_mut().remove_hits(id)?;
        remove(&self.pins.link(id, Hook::SkLookup))
    }

    /// Completes interrupted changes, and removes entries that no pod needs.
    pub(super) fn collect_inbound(&mut self) -> Result<()> {
        let pods = self.pods()?;
        for pod in &pods {
            if !self.is_synced(pod)? {
                let cgroup = Cgroup::find(pod.id).ok().flatten();
                self.sync_inbound(pod, cgroup.as_ref())?;
            }
        }
        let attached: BTreeSet<_> = pods.iter().map(|pod| pod.id).collect();
        for id in self.maps.inbound().pods()?.difference(&attached) {
            self.deactivate_inbound(*id)?;
            self.reader.maps.inbound_mut().remove_hits(*id)?;
        }
        self.drop_unused_listeners()
    }

    /// Whether inbound redirection is in line with a pod's row. The inbound row is written last, so
    /// if it exists nothing else is missing. Its serial may be an earlier one: the lookup program
    /// does not read it.
    fn is_synced(&self, pod: &Pod) -> Result<bool> {
        let copy = self.maps.inbound().row(pod.id)?.map(|row| PolicyRow {
            serial: pod.row.serial,
            ..row
        });
        Ok(pod.row.flags.inbound()
            && copy == Some(pod.row)
            && self.inbound_inode(pod.id)?.is_some())
    }

    /// Removes the listening sockets that no pod's inbound connections go to.
    pub(super) fn drop_unused_listeners(&mut self) -> Result<()> {
        let pods = self.pods()?.into_iter();
        let used = pods
            .filter(|pod| pod.row.flags.inbound())
            .map(|pod| (pod.row.netns, pod.row.in_port.get()))
            .collect();
        self.reader.maps.inbound_mut().drop_listeners_outside(&used)
    }
}
