//! The repair of damaged pods: the programs that a pod lacks are attached anew.
//!
//! The pod's row and the programs that it still has stay as they are, so a repair interrupts nothing.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};
use redirect_common::hooks::Hook;

use super::{
    ancestors,
    health::{Fault, MissingProgram},
    reader::Pod,
    writer::Writer,
};
use crate::{
    bpf,
    sys::{bpf::remove, cgroup::Cgroup, netns::NetnsSnapshot},
};

impl Writer {
    /// Attaches the programs that a pod lacks, and returns them. `netns` is the pod's network
    /// namespace, which only the lookup program of inbound connections needs.
    pub fn repair(
        &mut self,
        pod: &Pod,
        cgroup: &Cgroup,
        netns: Option<&NetnsSnapshot>,
    ) -> Result<Vec<MissingProgram>> {
        let health = self.health(&[*pod])?;
        let missing: Vec<_> = health.into_iter().flat_map(|pod| pod.missing).collect();
        if missing.is_empty() {
            return Ok(missing);
        }
        self.change(|writer| {
            writer.attach_missing(cgroup, &missing)?;
            if missing.iter().any(|program| program.hook == Hook::SkLookup) {
                writer.repair_inbound(pod, cgroup, netns)?;
            }
            Ok(())
        })?;
        Ok(missing)
    }

    /// Attaches the programs of cgroup hooks that a pod lacks.
    pub(super) fn attach_missing(&self, cgroup: &Cgroup, missing: &[MissingProgram]) -> Result<()> {
        let folder = self.pins().pod(cgroup.id());
        fs::create_dir_all(&folder).with_context(|| format!("create \"{}\"", folder.display()))?;
        let of_cgroup = missing
            .iter()
            .filter(|program| program.hook != Hook::SkLookup);
        let hooks = of_cgroup.clone().map(|program| program.hook);
        ancestors::check(cgroup, hooks, self.allow_override)?;
        for MissingProgram { hook, reason } in of_cgroup {
            let link = self.pins().link(cgroup.id(), *hook);
            match reason {
                Fault::OtherProgram => {
                    bpf::replace(self.pins(), *hook, &link)?;
                    continue;
                }
                Fault::NoLink => {}
                Fault::Detached | Fault::NotRun => remove(&link)?,
                // The pinned object may be a link that is needed elsewhere, and is not detached.
                Fault::OtherObject | Fault::OtherTarget => unpin(&link)?,
            }
            bpf::attach(self.pins(), *hook, cgroup, &link)?;
        }
        Ok(())
    }

    /// Attaches the lookup program of a pod anew.
    fn repair_inbound(
        &mut self,
        pod: &Pod,
        cgroup: &Cgroup,
        netns: Option<&NetnsSnapshot>,
    ) -> Result<()> {
        let Some(netns) = netns.filter(|netns| netns.cookie == pod.row.netns) else {
            bail!(
                "attach program `{}`: no process of the cgroup is in the network namespace that the pod was attached with",
                Hook::SkLookup.program()
            );
        };
        let port = pod.row.in_port.get();
        self.prepare_inbound(cgroup, Some(netns), netns.cookie, port)?;
        self.sync_inbound(pod, Some(cgroup))
    }
}

/// Removes a pin, and leaves the object as it is.
fn unpin(pin: &Path) -> Result<()> {
    let removed = if pin.is_dir() {
        fs::remove_dir(pin)
    } else {
        fs::remove_file(pin)
    };
    removed.with_context(|| format!("remove \"{}\"", pin.display()))
}
