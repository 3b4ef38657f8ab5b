//! The pinned maps of inbound redirection, as typed values.

use std::{
    collections::BTreeSet,
    fmt,
    os::fd::{AsRawFd as _, OwnedFd, RawFd},
};

use anyhow::{Context as _, Result, bail};
use aya::maps::{HashMap, Map, MapData, MapError, MapType, PerCpuHashMap};
use redirect_common::{
    abi::{Hits, ListenerKey, MAX_INBOUND, MapName, OrigDst, PolicyRow},
    net::BePort,
};
use rustix::io::Errno;

use super::{
    maps::{check_stored, ignore_missing, no_hits, open, optional, sum},
    pins::Pins,
};
use crate::sys::{cgroup::CgroupId, listeners::ListeningSocket};

/// `BPF_NOEXIST` (include/uapi/linux/bpf.h): insert only if the key has no value yet.
const NO_EXIST: u64 = 1;

/// The maps that the lookup programs of all pods read.
pub struct InboundMaps {
    rows: HashMap<MapData, CgroupId, PolicyRow>,
    hits: PerCpuHashMap<MapData, CgroupId, Hits>,
    // The socket map answers the system calls of a hash: a descriptor is written, and the socket's
    // cookie is read.
    listeners: HashMap<MapData, ListenerKey, u64>,
    // The socket storage too. Its key is a descriptor of the socket.
    records: HashMap<MapData, RawFd, OrigDst>,
}

impl fmt::Debug for InboundMaps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InboundMaps").finish_non_exhaustive()
    }
}

impl InboundMaps {
    /// Opens the maps of inbound redirection.
    pub(super) fn open(pins: &Pins) -> Result<Self> {
        let pin = |map| pins.map(map);
        let rows = open::<CgroupId, PolicyRow>(&pin(MapName::Inbound), MapType::Hash)?;
        let hits = open::<CgroupId, Hits>(&pin(MapName::InHits), MapType::PerCpuHash)?;
        let listeners = open::<ListenerKey, u64>(&pin(MapName::Listeners), MapType::SockHash)?;
        let records = open::<RawFd, OrigDst>(&pin(MapName::OrigDst), MapType::SkStorage)?;
        Ok(Self {
            rows: HashMap::try_from(Map::HashMap(rows))?,
            hits: PerCpuHashMap::try_from(Map::PerCpuHashMap(hits))?,
            listeners: HashMap::try_from(Map::HashMap(listeners))?,
            records: HashMap::try_from(Map::HashMap(records))?,
        })
    }

    /// A pod's inbound row, if it has one.
    pub fn row(&self, pod: CgroupId) -> Result<Option<PolicyRow>> {
        optional(self.rows.get(&pod, 0)).context("read the pod's inbound row")
    }

    /// Replaces a pod's inbound row, atomically for every inbound connection.
    pub fn set_row(&mut self, pod: CgroupId, row: &PolicyRow) -> Result<()> {
        let result = self.rows.insert(pod, row, 0);
        let entry = || "the pod's inbound row".to_owned();
        check_stored(result, entry, MAX_INBOUND, "cgroups with -b")
    }

    /// Removes a pod's inbound row. No inbound connection of the pod is redirected afterwards.
    pub fn remove_row(&mut self, pod: CgroupId) -> Result<()> {
        ignore_missing(self.rows.remove(&pod)).context("remove the pod's inbound row")
    }

    /// The pods that have a row or counters.
    pub fn pods(&self) -> Result<BTreeSet<CgroupId>> {
        self.rows
            .keys()
            .chain(self.hits.keys())
            .collect::<Result<_, _>>()
            .context("list the inbound rows")
    }

    /// A pod's counters of inbound connections, over all CPUs.
    pub(super) fn hits(&self, pod: CgroupId) -> Result<Hits> {
        let per_cpu = optional(self.hits.get(&pod, 0));
        Ok(sum(per_cpu.context("read the pod's inbound counters")?))
    }

    /// Sets a pod's counters of inbound connections to zero. The programs count only where counters
    /// exist.
    pub fn clear_hits(&mut self, pod: CgroupId) -> Result<()> {
        let result = self.hits.insert(pod, no_hits()?, 0);
        let entry = || "the pod's inbound counters".to_owned();
        check_stored(result, entry, MAX_INBOUND, "cgroups with -b")
    }

    /// Removes a pod's counters of inbound connections.
    pub fn remove_hits(&mut self, pod: CgroupId) -> Result<()> {
        ignore_missing(self.hits.remove(&pod)).context("remove the pod's inbound counters")
    }

    /// Stores and marks sockets that listen at a port of a namespace. Sockets that are stored
    /// already stay. Sockets beyond the number of slots are left out: they share the port with the
    /// stored ones.
    pub fn add_listeners(
        &mut self,
        netns: u64,
        port: u16,
        listeners: &[ListeningSocket],
    ) -> Result<()> {
        let port = BePort::new(port);
        for listener in listeners {
            let fd = listener.socket.as_raw_fd();
            self.records
                .insert(fd, OrigDst::of_listener(port), 0)
                .context("mark a listening socket of the proxy")?;
            let family = if listener.is_v4 {
                ListenerKey::V4
            } else {
                ListenerKey::V6
            };
            let first = ListenerKey::first(netns, port, family);
            self.add_listener(first, listener.cookie, &listener.socket)?;
        }
        Ok(())
    }

    fn add_listener(&mut self, first: ListenerKey, cookie: u64, socket: &OwnedFd) -> Result<()> {
        let slots = (0..ListenerKey::SLOTS).map(|slot| ListenerKey { slot, ..first });
        for key in slots.clone() {
            if optional(self.listeners.get(&key, 0)).context("read a listening socket")?
                == Some(cookie)
            {
                return Ok(());
            }
        }
        let fd = u64::try_from(socket.as_raw_fd())?;
        for key in slots {
            match self.listeners.insert(key, fd, NO_EXIST) {
                Err(MapError::SyscallError(error))
                    if error.io_error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(MapError::SyscallError(error))
                    if error.io_error.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error()) =>
                {
                    bail!(
                        "store a listening socket of the proxy: it is a multipath socket (MPTCP), which the kernel cannot assign connections to: have the proxy listen with plain TCP"
                    );
                }
                result => return result.context("store a listening socket of the proxy"),
            }
        }
        Ok(())
    }

    /// Removes the listening sockets at all ports other than these, which are given with the
    /// cookies of their namespaces.
    pub fn drop_listeners_outside(&mut self, used: &BTreeSet<(u64, u16)>) -> Result<()> {
        let keys: Result<Vec<_>, _> = self.listeners.keys().collect();
        for key in keys.context("list the listening sockets")? {
            if !used.contains(&(key.netns, key.port.get())) {
                ignore_missing(self.listeners.remove(&key)).context("remove a listening socket")?;
            }
        }
        Ok(())
    }

    /// The number of stored listening sockets.
    pub fn listeners(&self) -> Result<usize> {
        let keys: Result<Vec<_>, _> = self.listeners.keys().collect();
        Ok(keys.context("list the listening sockets")?.len())
    }
}
