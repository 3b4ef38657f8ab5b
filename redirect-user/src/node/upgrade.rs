//! The replacement of the programs by those of this build, while the maps stay as they are.
//!
//! Builds of one layout understand each other's rows and records, so their programs can be replaced
//! one by one while connections are made: each call meets the old program or the new one. An
//! interrupted replacement leaves some programs of each build; the next upgrade, of any build,
//! replaces all of them.

use anyhow::{Context as _, Result};
use redirect_common::{abi::Meta, hooks::Hook};
use serde::Serialize;

use super::{health::MissingProgram, reader::Reader, writer::Writer};
use crate::{
    bpf,
    sys::{
        attached::netns_of_link,
        cgroup::{Cgroup, CgroupId},
    },
};

/// The build number while the programs are of different builds.
const MIXED: u64 = 0;

/// The result of an upgrade.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Upgraded {
    /// Number of attached cgroups whose programs were replaced.
    pub cgroups: usize,
    /// Number of links, each of a program with a cgroup or a network namespace.
    pub links: usize,
    /// The cgroups whose programs could not all be replaced. The next upgrade tries again.
    pub failed: Vec<FailedUpgrade>,
}

/// A cgroup whose programs could not all be replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FailedUpgrade {
    /// The kernel's id of the cgroup.
    pub cgroup_id: CgroupId,
    /// The reason.
    pub error: String,
}

impl Reader {
    /// Whether the programs are those of this build.
    pub fn is_current(&self) -> Result<bool> {
        Ok(self.maps.meta()?.build == bpf::build())
    }
}

impl Writer {
    /// Replaces the programs of every attached cgroup with those of this build, which may be older
    /// or newer. `None` if they are of this build already. No connection is missed, and open
    /// connections stay open.
    pub fn upgrade(&mut self) -> Result<Option<Upgraded>> {
        if self.is_current()? {
            return Ok(None);
        }
        let cgroups = self.folders()?;
        let with_lookup = cgroups
            .iter()
            .any(|id| self.pins.link(*id, Hook::SkLookup).exists());
        // If the kernel refuses a program, it does so here, where nothing is replaced yet.
        bpf::prepare_programs(&self.pins, with_lookup).context("replace the programs")?;
        self.set_build(MIXED)?;
        bpf::take_new_programs(&self.pins).context("replace the programs")?;
        let mut upgraded = Upgraded::default();
        for cgroup_id in cgroups {
            // One pod is no reason to leave the others without this build.
            match self.replace_programs(cgroup_id, &mut upgraded) {
                Ok(()) => upgraded.cgroups = upgraded.cgroups.saturating_add(1),
                Err(error) => upgraded.failed.push(FailedUpgrade {
                    cgroup_id,
                    error: format!("{error:#}"),
                }),
            }
        }
        if upgraded.failed.is_empty() {
            self.set_build(bpf::build())?;
        }
        Ok(Some(upgraded))
    }

    /// Stores the build number of the programs.
    fn set_build(&mut self, build: u64) -> Result<()> {
        let meta = Meta {
            build,
            ..self.maps.meta()?
        };
        self.reader.maps.set_meta(meta)
    }

    /// Replaces the programs of one cgroup: programs that answer before programs that decide. Programs that
    /// the cgroup lacks are attached.
    fn replace_programs(&mut self, id: CgroupId, upgraded: &mut Upgraded) -> Result<()> {
        let mut missing = Vec::new();
        for hook in Hook::ALL {
            if let Err(reason) = self.check_link(id, hook)? {
                missing.push(MissingProgram { hook, reason });
                continue;
            }
            bpf::replace(&self.pins, hook, &self.pins.link(id, hook))?;
            upgraded.links = upgraded.links.saturating_add(1);
        }
        // The links of a cgroup that is gone are detached, and collected later.
        if !missing.is_empty()
            && let Some(cgroup) = Cgroup::find(id)?
        {
            self.change(|writer| writer.attach_missing(&cgroup, &missing))?;
            upgraded.links = upgraded.links.saturating_add(missing.len());
        }
        let inbound = self.pins.link(id, Hook::SkLookup);
        if inbound.exists() && netns_of_link(&inbound)?.is_some() {
            bpf::replace_inbound(&self.pins, id)?;
            upgraded.links = upgraded.links.saturating_add(1);
        }
        Ok(())
    }
}
