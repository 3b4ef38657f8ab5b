//! Replacing the programs by those of this build, where the maps stay as they are.
//!
//! Builds of one layout understand each other's rows and records, so their programs can be replaced one
//! by one while connections are made: each call meets the old program or the new one. A replacement that
//! was cut short leaves some of each, which is no build's own: the next one of any build does it again.

use anyhow::{Context as _, Result};
use redirect_common::{abi::Meta, hooks::Hook};
use serde::Serialize;

use super::{Reader, Writer};
use crate::{
    bpf,
    sys::{bpf::netns_of_link, cgroup::CgroupId},
};

/// The number of no build: some programs are one's and some another's.
const MIXED: u64 = 0;

/// What was replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Upgraded {
    /// Attached cgroups, each with all its programs.
    pub cgroups: usize,
    /// Links: a program at a cgroup, or at a network namespace.
    pub links: usize,
}

impl Reader {
    /// Whether the programs are those of this build.
    pub fn is_current(&self) -> Result<bool> {
        Ok(self.maps.meta()?.build == bpf::build())
    }
}

impl Writer {
    /// Has every attached cgroup run the programs of this build, older or newer than those it runs; `None`
    /// if it does. No connection is missed, and those that are open stay as they are.
    pub fn upgrade(&mut self) -> Result<Option<Upgraded>> {
        if self.is_current()? {
            return Ok(None);
        }
        let cgroups = self.folders()?;
        let with_lookup = cgroups
            .iter()
            .any(|id| self.pins.link(*id, Hook::SkLookup).exists());
        // Whatever the kernel refuses, it does here, where nothing is replaced yet.
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

    /// Notes which build's programs there are.
    fn set_build(&mut self, build: u64) -> Result<()> {
        let meta = Meta {
            build,
            ..self.maps.meta()?
        };
        self.reader.maps.set_meta(meta)
    }

    /// Those of one cgroup: what answers comes before what decides.
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
