//! Doing a step. Each is whole or undone ([`Writer`]); this holds the lock.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use redirect_common::abi::PolicyRow;
use redirect_user::{
    config::{Inbound, RedirectConfig},
    node::{Pod, Upgraded, Writer},
    sys::{
        cgroup::{Cgroup, CgroupId},
        netns::{NetnsRef, NetnsSnapshot},
    },
};

use super::netns::attach_name;
use crate::plan::{Action, Step, Target};

/// How long others wait for the lock at most, the last step apart: `redirectctl`, scrapes, and
/// addresses that change.
const MAX_LOCK_HOLD: Duration = Duration::from_millis(200);

/// Has everything that is attached below an owner folder run this version's programs; `None` if it does,
/// or if there is nothing.
pub fn upgrade(state_dir: &Path) -> Result<Option<Upgraded>> {
    match Writer::open_existing(state_dir)? {
        Some(mut writer) => writer.upgrade(),
        None => Ok(None),
    }
}

/// Whoever does the steps.
#[derive(Debug)]
pub(super) struct Executor {
    state_dir: PathBuf,
    writer: Option<(Writer, Instant)>,
}

impl Executor {
    pub(super) fn new(state_dir: &Path) -> Self {
        Self {
            state_dir: state_dir.to_owned(),
            writer: None,
        }
    }

    /// Collects what was left behind, which is all that opening does.
    pub(super) fn collect_leftovers(&mut self) -> Result<()> {
        self.writer().map(drop)
    }

    /// Does a step that changes something; what ends is for [`Self::detach`].
    pub(super) fn execute(&mut self, step: &Step, netns: Option<&NetnsRef>) -> Result<()> {
        match (step.action, &step.target) {
            (Action::Attach, Some(target)) => self.attach(target, netns),
            (Action::Update, Some(target)) => self.update(target, netns),
            (Action::Move, Some(target)) => self.move_to(target, netns),
            (Action::TakeOver, Some(target)) => self.take_over(target, netns),
            _ => Ok(()),
        }
    }

    /// The row that a cgroup has since the last step, if it has one: nobody else has written meanwhile.
    pub(super) fn row(&self, cgroup: CgroupId) -> Result<Option<PolicyRow>> {
        match &self.writer {
            Some((writer, _)) => writer.maps().row(cgroup),
            None => Ok(None),
        }
    }

    fn attach(&mut self, target: &Target, name: Option<&NetnsRef>) -> Result<()> {
        let cgroup = open_cgroup(target)?;
        let netns = NetnsSnapshot::read(&attach_name(target, name)?)?;
        Ok(self.writer()?.attach(&cgroup, &netns, &target.config)?)
    }

    fn update(&mut self, target: &Target, name: Option<&NetnsRef>) -> Result<()> {
        let _cgroup = open_cgroup(target)?;
        // Without a process there is nothing to read its addresses by; they stay as they are.
        let netns = match target.netns {
            Some(_) => Some(NetnsSnapshot::read(&attach_name(target, name)?)?),
            None => None,
        };
        let writer = self.writer()?;
        let pod = find_pod(writer, target.cgroup)?.context("find what is attached")?;
        // A process that came first by now may be in another namespace: that is another step.
        let netns = netns.filter(|netns| netns.cookie == pod.row.netns);
        Ok(writer.update(&pod, netns.as_ref(), &target.config)?)
    }

    fn move_to(&mut self, target: &Target, name: Option<&NetnsRef>) -> Result<()> {
        let _cgroup = open_cgroup(target)?;
        let netns = NetnsSnapshot::read(&attach_name(target, name)?)?;
        let writer = self.writer()?;
        let attached =
            |writer: &Writer| find_pod(writer, target.cgroup)?.context("find what is attached");
        let pod = attached(writer)?;
        if pod.row.flags.inbound() {
            // What arrives in the one namespace and in the other cannot be switched at once.
            let outbound = RedirectConfig {
                inbound: Inbound::default(),
                ..(*target.config).clone()
            };
            writer.update(&pod, Some(&netns), &outbound)?;
        }
        let pod = attached(writer)?;
        Ok(writer.update(&pod, Some(&netns), &target.config)?)
    }

    fn take_over(&mut self, target: &Target, name: Option<&NetnsRef>) -> Result<()> {
        let writer = self.writer()?;
        match find_pod(writer, target.cgroup)? {
            // Whoever attached it was killed before the rest.
            Some(_) => writer.deactivate_others(target.cgroup),
            None => self.attach(target, name),
        }
    }

    /// Ends all of these together: each by itself is answered for a fifth of a second.
    pub(super) fn detach(&mut self, cgroups: &[CgroupId]) -> Result<()> {
        let writer = self.writer()?;
        // If one is not there, its cgroup has gone meanwhile.
        let mut pods = writer.pods()?;
        pods.retain(|pod| cgroups.contains(&pod.id));
        if !pods.is_empty() {
            writer.detach(&pods)?;
        }
        writer.detach_others(cgroups)
    }

    fn writer(&mut self) -> Result<&mut Writer> {
        self.writer
            .take_if(|(_, since)| since.elapsed() > MAX_LOCK_HOLD);
        let (writer, _) = match self.writer.take() {
            Some(open) => self.writer.insert(open),
            None => self
                .writer
                .insert((Writer::open(&self.state_dir)?, Instant::now())),
        };
        Ok(writer)
    }
}

/// The cgroup that was planned for: its path may be another one's by now.
fn open_cgroup(target: &Target) -> Result<Cgroup> {
    let cgroup = Cgroup::open(&target.path)?;
    if cgroup.id() != target.cgroup {
        bail!(
            "open cgroup \"{}\": it was removed and made anew meanwhile",
            target.path.display()
        );
    }
    Ok(cgroup)
}

fn find_pod(writer: &Writer, cgroup: CgroupId) -> Result<Option<Pod>> {
    Ok(writer.pods()?.into_iter().find(|pod| pod.id == cgroup))
}
