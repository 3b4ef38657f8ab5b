//! The writer of the state: attach, update, detach, and the removal of what killed processes left.

use std::{
    collections::BTreeSet,
    fs,
    io::ErrorKind,
    ops::Deref,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Error, Result};
use redirect_common::{
    abi::{Fingerprint, MAX_POLICIES, Meta, PolicyId, PolicyRow, Serial},
    hooks::Hook,
};
use thiserror::Error;

use super::{
    ancestors::{self, Conflict},
    drain::drain,
    reader::{Pod, Reader},
    recovery::{is_loaded, recover},
    uninstall::{Removed, clear, sweep},
};
use crate::{
    bpf::{self, Pins, PolicyEntries},
    config::RedirectConfig,
    policy::{CompiledPolicy, FingerprintKey, NoSuchId, PodNetwork, compile, excluded_interfaces},
    sys::{
        bpf::remove,
        bpffs, capability,
        cgroup::{Cgroup, CgroupId},
        dir_lock::DirLock,
        netns::NetnsSnapshot,
        userns::IdMaps,
    },
};

/// The reason why a pod was not attached or updated.
#[derive(Debug, Error)]
pub enum AttachError {
    /// The cgroup is attached already, and would have two policies.
    #[error("attach cgroup \"{}\": it is attached already: change it with `redirectctl update`, or detach it first", .0.display())]
    AlreadyAttached(PathBuf),
    /// A change needs the pod's network namespace, which was not named, and no process of the
    /// cgroup shows it.
    #[error("{0}: no process is in the cgroup to show the pod's network namespace")]
    NoNetns(&'static str),
    /// The configuration names an id that the pod's user namespace does not have.
    #[error(transparent)]
    NoSuchId(#[from] NoSuchId),
    /// A program of another owner on the cgroup, or on one above, does not allow the pod's programs.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// Any other error. No caller distinguishes them.
    #[error(transparent)]
    Other(#[from] Error),
}

/// The state, opened for writing. No other process writes it in the meantime, and readers read again
/// what has changed while they read it.
#[derive(Debug)]
pub struct Writer {
    pub(super) reader: Reader,
    _lock: DirLock,
    /// Whether every program run that could read a freed inbound row has ended. The kernel reuses
    /// the memory of a freed row at once.
    readers_done: bool,
    /// Whether programs that were attached with `BPF_F_ALLOW_OVERRIDE` above may stop running for a pod.
    pub(super) allow_override: bool,
    /// Whether every program run that could read a row that was replaced has ended.
    rows_done: bool,
}

impl Deref for Writer {
    type Target = Reader;

    fn deref(&self) -> &Reader {
        &self.reader
    }
}

impl Writer {
    /// Opens the state in a state directory, creating it if it does not exist, and removes what
    /// killed processes and removed cgroups have left. Waits [`DirLock::PATIENCE`] for other writers.
    pub fn open(state_dir: &Path) -> Result<Self> {
        Self::open_within(state_dir, DirLock::PATIENCE)
    }

    /// As [`Self::open`], with another longest time to wait for other writers.
    pub fn open_within(state_dir: &Path, patience: Duration) -> Result<Self> {
        capability::require(&capability::NEEDED)?;
        let pins = Pins::new(state_dir);
        let lock = loop {
            bpffs::ensure(state_dir)?;
            // The last holder of the lock may have uninstalled.
            if let Some(lock) = DirLock::exclusive(state_dir, patience)? {
                break lock;
            }
        };
        if pins.version().exists() {
            recover(&pins)?;
        }
        if !pins.is_loaded() {
            // The rest of an interrupted uninstall is not usable.
            clear(pins.version())?;
            bpf::load(&pins)?;
        }
        Self::locked(pins, lock)
    }

    /// Opens the state in a state directory; `None` if there is none.
    pub fn open_existing(state_dir: &Path) -> Result<Option<Self>> {
        capability::require(&capability::NEEDED)?;
        bpffs::check(state_dir)?;
        let pins = Pins::new(state_dir);
        if !is_loaded(&pins) {
            return Ok(None);
        }
        match DirLock::exclusive(state_dir, DirLock::PATIENCE)? {
            // Checked again: the last holder of the lock may have uninstalled.
            Some(lock) if is_loaded(&pins) => {
                recover(&pins)?;
                Self::locked(pins, lock).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn locked(pins: Pins, lock: DirLock) -> Result<Self> {
        let mut writer = Self {
            reader: Reader::of(pins)?,
            _lock: lock,
            readers_done: false,
            allow_override: false,
            rows_done: false,
        };
        if writer.has_leftovers()? {
            writer.collect()?;
        }
        Ok(writer)
    }

    /// Allows attaches that stop programs of other owners from running for a pod: programs on cgroups
    /// above that were attached with `BPF_F_ALLOW_OVERRIDE`.
    #[must_use]
    pub const fn allow_override(mut self, allow_override: bool) -> Self {
        self.allow_override = allow_override;
        self
    }

    /// Attaches a pod with a configuration. On success the pod is attached, and programs of other
    /// layouts that decided about the cgroup no longer decide. After an error it may be attached
    /// all the same, if its row was written before the failure: the next writer then completes the
    /// inbound part. Needs `CAP_BPF`, `CAP_NET_ADMIN` and `CAP_PERFMON`.
    pub fn attach(
        &mut self,
        cgroup: &Cgroup,
        netns: &NetnsSnapshot,
        config: &RedirectConfig,
    ) -> Result<(), AttachError> {
        let id = cgroup.id();
        if self.active_row(id)?.is_some() {
            return Err(AttachError::AlreadyAttached(cgroup.path().to_owned()));
        }
        let network = network(netns, config)?;
        let compiled = compile(config, &network)?;
        self.check_inbound(id, None, Some(netns), config)?;
        ancestors::check(cgroup, Hook::ALL, self.allow_override)?;
        self.change(|writer| {
            // The kernel keeps a row as long as the cgroup. A row that an earlier attachment left
            // must not become active before this attachment is complete.
            writer.rows_done = false;
            writer.reader.maps.clear_row(id)?;
            let folder = writer.pins.pod(id);
            fs::create_dir_all(&folder)
                .with_context(|| format!("create \"{}\"", folder.display()))?;
            for hook in Hook::ALL {
                bpf::attach(&writer.pins, hook, cgroup, &writer.pins.link(id, hook))?;
            }
            if config.redirects_inbound() {
                writer.prepare_inbound(cgroup, Some(netns), netns.cookie, config.in_port)?;
            }
            writer.reader.maps.clear_hits(id)?;
            writer.set_locals(netns)?;
            writer.activate(id, Some(cgroup), &compiled, network.ids())
        })?;
        Ok(self.deactivate_others(id)?)
    }

    /// Replaces a pod's configuration; every connection meets the old one or the new one. If a
    /// namespace is given, its addresses are read from it. As in [`Self::attach`], programs of
    /// other layouts no longer decide.
    pub fn update(
        &mut self,
        pod: &Pod,
        netns: Option<&NetnsSnapshot>,
        config: &RedirectConfig,
    ) -> Result<(), AttachError> {
        let network = match netns {
            Some(netns) => network(netns, config)?,
            None if config.dual_stack != pod.row.flags.dual_stack() => {
                return Err(AttachError::NoNetns(
                    "change --dual-stack, which depends on the pod's addresses",
                ));
            }
            None if config.exclude_interfaces != excluded_interfaces(&pod.row) => {
                return Err(AttachError::NoNetns(
                    "change -c/--istio-exclude-interfaces, which depends on the pod's routes",
                ));
            }
            None => self.network(pod)?,
        };
        let compiled = compile(config, &network)?;
        self.check_inbound(pod.id, Some(pod), netns, config)?;
        let missing = self.missing(pod)?;
        let cgroup = if config.redirects_inbound() || !missing.is_empty() {
            Some(Cgroup::find(pod.id)?.context("find the pod's cgroup: it is gone")?)
        } else {
            None
        };
        self.change(|writer| {
            if let Some(cgroup) = &cgroup {
                writer.attach_missing(cgroup, &missing)?;
            }
            if let Some(netns) = netns {
                writer.set_locals(netns)?;
            }
            let cookie = netns.map_or(pod.row.netns, |netns| netns.cookie);
            if let Some(cgroup) = &cgroup {
                writer.prepare_inbound(cgroup, netns, cookie, config.in_port)?;
            }
            writer.replace(pod, cgroup.as_ref(), &compiled, network.ids())?;
            writer.drop_unused_namespaces()
        })?;
        Ok(self.deactivate_others(pod.id)?)
    }

    /// Stops redirecting pods. Their proxies have time to read the original destinations of the
    /// last redirected connections, for all pods together. Open connections stay open.
    pub fn detach(&mut self, pods: &[Pod]) -> Result<()> {
        self.change(|writer| {
            for pod in pods {
                writer.deactivate_inbound(pod.id)?;
                writer.rows_done = false;
                writer.reader.maps.deactivate_row(pod.id)?;
            }
            writer.wait_for_programs()?;
            let ids: Vec<_> = pods.iter().map(|pod| pod.id).collect();
            drain(&ids)?;
            for &id in &ids {
                writer.remove_links(id)?;
            }
            let rows: Vec<_> = pods.iter().map(|pod| pod.row).collect();
            writer.drop_rows(&rows)?;
            writer.drop_unused_namespaces()
        })
    }

    /// Removes everything if no pod is attached, as `uninstall` does. For callers that leave
    /// nothing behind that did not exist before.
    pub fn uninstall_if_unused(self) -> Result<()> {
        if self.folders()?.is_empty() {
            // The lock is held until `self` is dropped.
            sweep(self.pins.state_dir(), &mut Removed::default())?;
        }
        Ok(())
    }

    /// Runs a change between two marks in `META`, so that the next writer knows if it was
    /// interrupted. After an error, everything that is not attached is removed.
    pub(super) fn change<T>(&mut self, act: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.mark(true)?;
        match act(self) {
            Ok(value) => self.mark(false).map(|()| value),
            Err(error) => Err(match self.collect() {
                Ok(()) => error,
                Err(undo) => error.context(format!("undo the incomplete change: {undo:#}")),
            }),
        }
    }

    /// Waits until every program run that has begun before this call has ended.
    fn wait_for_programs(&mut self) -> Result<()> {
        self.maps.wait_for_programs()?;
        self.mark_waited();
        Ok(())
    }

    /// Notes that every program run has ended that began before this call.
    const fn mark_waited(&mut self) {
        self.readers_done = true;
        self.rows_done = true;
    }

    /// Waits for the programs that read replaced rows, if a row was replaced since the last wait.
    fn wait_for_rows(&mut self) -> Result<()> {
        if self.rows_done {
            Ok(())
        } else {
            self.wait_for_programs()
        }
    }

    /// Replaces a pod's row.
    pub(super) fn set_row(&mut self, id: CgroupId, row: &PolicyRow) -> Result<()> {
        self.rows_done = false;
        self.reader.maps.set_row(id, row)
    }

    /// Waits for the readers of freed rows, if a row was freed since the last wait.
    pub(super) fn wait_for_readers(&mut self) -> Result<()> {
        if self.readers_done {
            Ok(())
        } else {
            self.wait_for_programs()
        }
    }

    /// Notes that a row was freed that a program may still read.
    pub(super) const fn mark_freed(&mut self) {
        self.readers_done = false;
        self.rows_done = false;
    }

    fn mark(&mut self, is_changing: bool) -> Result<()> {
        let meta = self.maps.meta()?.marked(is_changing);
        self.reader.maps.set_meta(meta)
    }

    /// Makes the pod's row name a policy: an existing one with the same entries, or a new one.
    fn activate(
        &mut self,
        id: CgroupId,
        cgroup: Option<&Cgroup>,
        compiled: &CompiledPolicy,
        ids: &IdMaps,
    ) -> Result<()> {
        let serial = self.new_serial()?;
        let fingerprint = compiled.fingerprint(&self.fingerprint_key()?, ids);
        let policy = match self.maps.policy_like(fingerprint)? {
            Some(policy) => policy,
            None => self.store(compiled, ids, fingerprint)?,
        };
        let row = compiled.row(policy, serial);
        self.set_row(id, &row)?;
        self.sync_inbound(&Pod { id, row }, cgroup)
    }

    /// Stores a policy that no pod has.
    fn store(
        &mut self,
        compiled: &CompiledPolicy,
        ids: &IdMaps,
        fingerprint: Fingerprint,
    ) -> Result<PolicyId> {
        let policy = self.free_policy()?;
        let entries = PolicyEntries {
            cidrs: &compiled.cidrs,
            ports: &compiled.ports,
            groups: &compiled.groups,
        };
        if self.reader.maps.store_policy(policy, entries)? {
            self.mark_waited();
        }
        self.reader.maps.set_ids(policy, ids)?;
        // Last, because a pod that finds the policy relies on its entries.
        let record = entries.record(fingerprint);
        self.reader.maps.set_record(policy, record)?;
        Ok(policy)
    }

    /// The key of the fingerprints of this state.
    pub(super) fn fingerprint_key(&self) -> Result<FingerprintKey> {
        Ok(FingerprintKey(self.maps.meta()?.fingerprint_key))
    }

    /// Gives a pod another policy, and removes the old one if no other pod uses it.
    pub(super) fn replace(
        &mut self,
        pod: &Pod,
        cgroup: Option<&Cgroup>,
        compiled: &CompiledPolicy,
        ids: &IdMaps,
    ) -> Result<()> {
        self.activate(pod.id, cgroup, compiled, ids)?;
        self.drop_rows(&[pod.row])
    }

    /// The id of a policy that no row names and that has no entries.
    fn free_policy(&self) -> Result<PolicyId> {
        let mut used = self.maps.policies()?;
        used.extend(self.pods()?.into_iter().map(|pod| pod.row.policy));
        let mut ids = (1..MAX_POLICIES).map(PolicyId);
        ids.find(|policy| !used.contains(policy)).with_context(|| {
            let most = MAX_POLICIES.saturating_sub(1);
            format!("store the policy: the pods of this node have {most} different policies, and there is no room for more: give some the same")
        })
    }

    /// A serial that no row has.
    pub(super) fn new_serial(&mut self) -> Result<Serial> {
        let meta = self.maps.meta()?;
        // Few of four billion numbers are in use, but numbers repeat after that many changes.
        let rows = self.pods()?.into_iter().map(|pod| pod.row);
        let used: BTreeSet<_> = rows.map(|row| row.serial.0).collect();
        let number = (1..=u32::MAX)
            .map(|step| meta.last_number.wrapping_add(step))
            .find(|number| *number != 0 && !used.contains(number))
            .context("find a free number")?;
        self.reader.maps.set_meta(Meta {
            last_number: number,
            ..meta
        })?;
        Ok(Serial(number))
    }

    /// Removes the policies and findings that only these replaced or cleared rows have used.
    fn drop_rows(&mut self, gone: &[PolicyRow]) -> Result<()> {
        let rows: Vec<_> = self.pods()?.into_iter().map(|pod| pod.row).collect();
        let used: BTreeSet<_> = rows.iter().map(|row| row.policy).collect();
        let policies: BTreeSet<_> = gone.iter().map(|row| row.policy).collect();
        self.drop_policies(&(&policies - &used))?;
        if gone.iter().any(|row| row.flags.shadow()) {
            let used = rows.iter().map(|row| row.serial).collect();
            self.reader.maps.drop_shadow_diffs_outside(&used)?;
        }
        Ok(())
    }

    /// Removes policies that no row names any more.
    fn drop_policies(&mut self, policies: &BTreeSet<PolicyId>) -> Result<()> {
        if policies.is_empty() {
            return Ok(());
        }
        // First, so that no other pod starts to use a policy that is being removed.
        for &policy in policies {
            self.reader.maps.remove_record(policy)?;
        }
        // Programs that have read the old row may still look up entries.
        self.wait_for_rows()?;
        self.reader.maps.drop_policies(policies)
    }

    /// Removes the addresses, stand-ins, listening sockets and handshakes of namespaces that no pod
    /// is in.
    fn drop_unused_namespaces(&mut self) -> Result<()> {
        let used: BTreeSet<u64> = self.pods()?.into_iter().map(|pod| pod.row.netns).collect();
        for (key, _) in self.maps.locals()? {
            if !used.contains(&key.netns) {
                self.reader.maps.remove_local(&key)?;
            }
        }
        self.drop_unused_listeners()?;
        self.reader.maps.drop_stand_ins_outside(&used)?;
        self.reader.maps.drop_flows_outside(&used)
    }

    /// Removes everything that no living, attached pod needs.
    fn collect(&mut self) -> Result<()> {
        self.mark(true)?;
        for id in self.dead()? {
            self.remove_links(id)?;
        }
        self.collect_inbound()?;
        let rows: Vec<_> = self.pods()?.into_iter().map(|pod| pod.row).collect();
        let used = rows.iter().map(|row| row.policy).collect();
        self.drop_policies(&(&self.maps.policies()? - &used))?;
        self.complete_records()?;
        let used = rows.iter().map(|row| row.serial).collect();
        self.reader.maps.drop_shadow_diffs_outside(&used)?;
        self.drop_unused_namespaces()?;
        self.collect_others()?;
        self.mark(false)
    }

    /// Removes a pod's links in the reverse order of attaching, and its folder.
    fn remove_links(&mut self, id: CgroupId) -> Result<()> {
        self.remove_inbound(id)?;
        let folder = self.pins.pod(id);
        for hook in Hook::ALL.into_iter().rev() {
            remove(&self.pins.link(id, hook))?;
        }
        match fs::remove_dir(&folder) {
            // Foreign files in the folder of one pod must not be in the way of others.
            Err(error)
                if ![ErrorKind::NotFound, ErrorKind::DirectoryNotEmpty].contains(&error.kind()) =>
            {
                Err(error).with_context(|| format!("remove \"{}\"", folder.display()))
            }
            _ => Ok(()),
        }
    }
}

/// The network of a pod in a namespace, under a configuration.
fn network(netns: &NetnsSnapshot, config: &RedirectConfig) -> Result<PodNetwork> {
    Ok(PodNetwork::new(
        netns,
        config.dual_stack,
        &config.exclude_interfaces,
    )?)
}
