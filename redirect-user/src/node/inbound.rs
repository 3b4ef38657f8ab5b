//! Redirecting what arrives: a lookup program in the pod's network namespace.
//!
//! The pod's row says what is wanted; the inbound row, a copy of it, is what the lookup program
//! reads. It is written after the pod's row and removed before it, and a change that was cut short in
//! between is finished by the next writer ([`Writer::sync_inbound`]). So that this one can, the program stays
//! attached as long as the pod's row says that inbound connections are redirected.

use std::{collections::BTreeSet, os::fd::AsFd as _};

use anyhow::{Context as _, Result, anyhow};
use redirect_common::hooks::Hook;

use super::{AttachError, Pod, Writer};
use crate::{
    bpf,
    config::RedirectConfig,
    sys::{
        bpf::{netns_of_link, remove},
        cgroup::{self, Cgroup, CgroupId},
        listeners,
        netns::NetnsSnapshot,
    },
};

/// Whether inbound connections are redirected. They are never in shadow mode.
pub(super) const fn is_wanted(config: &RedirectConfig) -> bool {
    !config.inbound.is_none() && !config.shadow
}

impl Writer {
    /// Refuses a configuration whose inbound part cannot be had for a pod: `pod` is what is attached,
    /// if anything is, and `netns` the namespace it is or will be in, if that is known.
    pub(super) fn check_inbound(
        &self,
        id: CgroupId,
        pod: Option<&Pod>,
        netns: Option<&NetnsSnapshot>,
        config: &RedirectConfig,
    ) -> Result<(), AttachError> {
        if !is_wanted(config) {
            return Ok(());
        }
        if netns.is_some_and(|netns| netns.is_initial) {
            return Err(anyhow!("redirect inbound connections (-b): the network namespace is the machine's own, whose every connection would go to this pod's proxy: name the pod's, or leave -b out").into());
        }
        if pod.is_some_and(|pod| {
            pod.row.flags.inbound() && netns.is_some_and(|netns| netns.cookie != pod.row.netns)
        }) {
            return Err(anyhow!("redirect inbound connections (-b) of another network namespace: the pod's are redirected in one already: detach it, then attach it with the other").into());
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
        return Err(anyhow!("redirect inbound connections (-b): those of this network namespace go to the proxy of cgroup {shown} already: leave -b out here, or there").into());
    }

    /// Makes ready what inbound redirection needs, so that only rows are missing. Nothing is
    /// redirected by this. Without a namespace it is the one that the program is attached to already,
    /// which has this cookie. `port` is the proxy's inbound one.
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
        self.keep_listeners(cgroup, cookie, port)
    }

    /// Attaches a pod's lookup program to a namespace, if it is not there yet.
    fn attach_inbound(&mut self, id: CgroupId, netns: &NetnsSnapshot) -> Result<()> {
        let file = netns.file.as_ref().context("reach the network namespace")?;
        if self.inbound_inode(id)? == Some(file.inode()) {
            return Ok(());
        }
        // Of another namespace, or of none any more.
        self.remove_inbound(id)?;
        self.reader.maps.inbound_mut().clear_hits(id)?;
        bpf::attach_inbound(&self.pins, id, file.as_fd())
    }

    /// Makes inbound redirection what a pod's row says. Without a cgroup there are no listening sockets to look for:
    /// they were kept for an earlier row with the same port.
    pub(super) fn sync_inbound(&mut self, pod: &Pod, cgroup: Option<&Cgroup>) -> Result<()> {
        let Pod { id, row } = *pod;
        if !row.flags.inbound() || self.inbound_inode(id)?.is_none() {
            return self.remove_inbound(id);
        }
        // Once more: some may have begun to listen before the pod's row said that they are wanted.
        // What cannot be kept was named when this was prepared, and must not stand in the way of
        // whoever finishes it.
        if let Some(cgroup) = cgroup {
            drop(self.keep_listeners(cgroup, row.netns, row.in_port.get()));
        }
        // The row must not get the memory of one that a program may be looking at.
        self.wait_for_readers()?;
        self.free_row(id)?;
        self.reader.maps.inbound_mut().set_row(id, &row)
    }

    /// The inbound row that a pod has, if any, is about to be replaced or removed.
    fn free_row(&mut self, id: CgroupId) -> Result<()> {
        if self.maps.inbound().row(id)?.is_some() {
            self.freed();
        }
        Ok(())
    }

    /// The inode of the namespace that a pod's lookup program is attached to.
    fn inbound_inode(&self, id: CgroupId) -> Result<Option<u64>> {
        let link = self.pins.link(id, Hook::SkLookup);
        if link.exists() {
            netns_of_link(&link)
        } else {
            Ok(None)
        }
    }

    /// Keeps those sockets of a pod's processes that listen at the proxy's inbound port.
    fn keep_listeners(&mut self, cgroup: &Cgroup, netns: u64, port: u16) -> Result<()> {
        let Some(inode) = self.inbound_inode(cgroup.id())? else {
            return Ok(());
        };
        let found = listeners::find(&cgroup.processes(), inode, port)?;
        self.reader
            .maps
            .inbound_mut()
            .add_listeners(netns, port, &found)
    }

    /// Ends a pod's inbound redirection. All that it takes is still there.
    pub(super) fn deactivate_inbound(&mut self, id: CgroupId) -> Result<()> {
        self.free_row(id)?;
        self.reader.maps.inbound_mut().remove_row(id)
    }

    /// Ends a pod's inbound redirection, and forgets all about it.
    pub(super) fn remove_inbound(&mut self, id: CgroupId) -> Result<()> {
        self.deactivate_inbound(id)?;
        self.reader.maps.inbound_mut().remove_hits(id)?;
        remove(&self.pins.link(id, Hook::SkLookup))
    }

    /// Finishes what was cut short, and forgets what no pod needs.
    pub(super) fn collect_inbound(&mut self) -> Result<()> {
        let pods = self.pods()?;
        for pod in &pods {
            if !self.is_settled(pod)? {
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

    /// Whether a pod's inbound connections are redirected as its row says: the inbound row comes last, so that
    /// nothing else is missing where it is there.
    fn is_settled(&self, pod: &Pod) -> Result<bool> {
        Ok(pod.row.flags.inbound()
            && self.maps.inbound().row(pod.id)? == Some(pod.row)
            && self.inbound_inode(pod.id)?.is_some())
    }

    /// Forgets the listening sockets that no pod's inbound connections go to.
    pub(super) fn drop_unused_listeners(&mut self) -> Result<()> {
        let pods = self.pods()?.into_iter();
        let used = pods
            .filter(|pod| pod.row.flags.inbound())
            .map(|pod| (pod.row.netns, pod.row.in_port.get()))
            .collect();
        self.reader.maps.inbound_mut().drop_listeners_outside(&used)
    }
}
