//! The replacement of the programs by those of this build, while the maps stay as they are.
//!
//! Builds of one layout understand each other's rows and records, so their programs can be replaced
//! one by one while connections are made: each call meets the old program or the new one. An
//! interrupted replacement leaves some programs of each build; the next upgrade, of any build,
//! replaces all of them.

use anyhow::{Context as _, Result};
use redirect_common::{abi::Meta, hooks::Hook};
use serde::Serialize;

use super::{reader::Reader, writer::Writer};
use crate::{
    bpf,
    sys::{attached::netns_of_link, cgroup::CgroupId},
};

/// The build number while the programs are of different builds.
const MIXED: u64 = 0;

/// The result of an upgrade.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Upgraded {
    /// Number of attached cgroups whose programs were replaced.
    pub cgroups: usize,
    /// Number of links, each of a program with a cgroup or a network namespace.
    pub links: usize,
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
        for id in cgroups {
            self.replace_programs(id, &mut upgraded)?;
            upgraded.cgroups = upgraded.cgroups.saturating_add(1);
        }
        self.set_build(bpf::build())?;
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

    /// Replaces the programs of one cgroup: programs that answer before programs that decide.
    fn replace_programs(&self, id: CgroupId, upgraded: &mut Upgraded) -> Result<()> {
        for hook in Hook::ALL {
            bpf::replace(&self.pins, hook, &self.pins.link(id, hook))?;
            upgraded.links = upgraded.links.saturating_add(1);
        }
        let inbound = self.pins.link(id, Hook::SkLookup);
        if inbound.exists() && netns_of_link(&inbound)?.is_some() {
            bpf::replace_inbound(&self.pins, id)?;
            upgraded.links = upgraded.links.saturating_add(1);
        }
        Ok(())
    }
}
