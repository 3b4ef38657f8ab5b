//! The executor of steps. Each step is whole or undone ([`Writer`]); the executor holds the writer lock.

use std::{
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use redirect_common::abi::PolicyRow;
use redirect_user::{
    config::{Inbound, RedirectConfig},
    node::{Pod, Upgraded, Warning, Writer, check_netns},
    sys::{
        cgroup::{Cgroup, CgroupId},
        netns::{NetnsRef, NetnsSnapshot},
    },
};

use super::netns::attach_name;
use crate::plan::{Action, Step, Target};

/// Pause after the longest time with the writer lock. Others look for the lock every other millisecond.
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Longest time with the writer lock, the last step apart. Others wait for it: `redirectctl`, scrapes, and
/// changes of addresses.
const MAX_LOCK_HOLD: Duration = Duration::from_millis(200);

/// Has all attachments below a state directory run this version's programs. `None` if they do, or if there
/// are none.
pub fn upgrade(state_dir: &Path) -> Result<Option<Upgraded>> {
    match Writer::open_existing(state_dir)? {
        Some(mut writer) => writer.upgrade(),
        None => Ok(None),
    }
}

/// Executes plan steps, holding the writer lock for at most 200 ms.
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

    /// Collects leftovers of killed writers, which opening a writer does.
    pub(super) fn collect_leftovers(&mut self) -> Result<()> {
        self.writer().map(drop)
    }

    /// Mends what a writer mends when it is opened: pins of maps that another process has removed.
    pub(super) fn recover(&self) -> Result<()> {
        Writer::open_existing(&self.state_dir).map(drop)
    }

    /// Executes a step that attaches or changes something; [`Self::detach`] is for the others. The warnings are about
    /// settings that the pod's addresses and interfaces do not fit.
    pub(super) fn execute(
        &mut self,
        step: &Step,
        netns: Option<&NetnsRef>,
    ) -> Result<Vec<Warning>> {
        match (step.action, &step.target) {
            (Action::Attach, Some(target)) => self.attach(target, netns),
            (Action::Update, Some(target)) => self.update(target, netns),
            (Action::Move, Some(target)) => self.move_to(target, netns),
            (Action::Repair, Some(target)) => self.repair(target, netns),
            (Action::TakeOver, Some(target)) => self.take_over(target, netns),
            _ => Ok(Vec::new()),
        }
    }

    /// The row that a cgroup has after the last step: nobody else has written meanwhile.
    pub(super) fn row(&self, cgroup: CgroupId) -> Result<Option<PolicyRow>> {
        match &self.writer {
            Some((writer, _)) => writer.maps().row(cgroup),
            None => Ok(None),
        }
    }

    fn attach(&mut self, target: &Target, name: Option<&NetnsRef>) -> Result<Vec<Warning>> {
        let cgroup = open_cgroup(target)?;
        let netns = NetnsSnapshot::read(&attach_name(target, name)?)?;
        self.writer()?.attach(&cgroup, &netns, &target.config)?;
        Ok(check_netns(&target.config, &netns))
    }

    fn update(&mut self, target: &Target, name: Option<&NetnsRef>) -> Result<Vec<Warning>> {
        let _cgroup = open_cgroup(target)?;
        // Without a process there is no way to read its addresses; they stay as they are.
        let netns = match target.netns {
            Some(_) => Some(NetnsSnapshot::read(&attach_name(target, name)?)?),
            None => None,
        };
        let writer = self.writer()?;
        let pod = find_pod(writer, target.cgroup)?.context("find the attachment")?;
        // The first process may be in another namespace by now, which is another step.
        let netns = netns.filter(|netns| netns.cookie == pod.row.netns);
        writer.update(&pod, netns.as_ref(), &target.config)?;
        Ok(netns.map_or_else(Vec::new, |netns| check_netns(&target.config, &netns)))
    }

    fn move_to(&mut self, target: &Target, name: Option<&NetnsRef>) -> Result<Vec<Warning>> {
        let _cgroup = open_cgroup(target)?;
        let netns = NetnsSnapshot::read(&attach_name(target, name)?)?;
        let writer = self.writer()?;
        let attached =
            |writer: &Writer| find_pod(writer, target.cgroup)?.context("find the attachment");
        let pod = attached(writer)?;
        if pod.row.flags.inbound() {
            // The inbound programs of two namespaces cannot be switched at once: inbound ends in the old one
            // first.
            let outbound = RedirectConfig {
                inbound: Inbound::default(),
                ..(*target.config).clone()
            };
            writer.update(&pod, Some(&netns), &outbound)?;
        }
        let pod = attached(writer)?;
        writer.update(&pod, Some(&netns), &target.config)?;
        Ok(check_netns(&target.config, &netns))
    }

    fn repair(&mut self, target: &Target, name: Option<&NetnsRef>) -> Result<Vec<Warning>> {
        let cgroup = open_cgroup(target)?;
        let netns = match target.netns {
            Some(_) => Some(NetnsSnapshot::read(&attach_name(target, name)?)?),
            None => None,
        };
        let writer = self.writer()?;
        let pod = find_pod(writer, target.cgroup)?.context("find the attachment")?;
        writer.repair(&pod, &cgroup, netns.as_ref())?;
        Ok(Vec::new())
    }

    fn take_over(&mut self, target: &Target, name: Option<&NetnsRef>) -> Result<Vec<Warning>> {
        let writer = self.writer()?;
        match find_pod(writer, target.cgroup)? {
            // An agent was killed after it had attached the cgroup.
            Some(_) => {
                writer.deactivate_others(target.cgroup)?;
                Ok(Vec::new())
            }
            None => self.attach(target, name),
        }
    }

    /// Detaches all of these together: a single detach waits a fifth of a second for open handshakes.
    pub(super) fn detach(&mut self, cgroups: &[CgroupId]) -> Result<()> {
        let writer = self.writer()?;
        // A pod that is not there was collected with its cgroup.
        let mut pods = writer.pods()?;
        pods.retain(|pod| cgroups.contains(&pod.id));
        if !pods.is_empty() {
            writer.detach(&pods)?;
        }
        writer.detach_others(cgroups)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "flock(2) has no queue: a process that polls never finds the lock free without a pause"
    )]
    fn writer(&mut self) -> Result<&mut Writer> {
        let held = self
            .writer
            .take_if(|(_, since)| since.elapsed() > MAX_LOCK_HOLD);
        if held.is_some() {
            drop(held);
            thread::sleep(LOCK_PAUSE);
        }
        let (writer, _) = match self.writer.take() {
            Some(open) => self.writer.insert(open),
            None => self
                .writer
                .insert((Writer::open(&self.state_dir)?, Instant::now())),
        };
        Ok(writer)
    }
}

/// Opens the cgroup that was planned for: another one may have its path by now.
fn open_cgroup(target: &Target) -> Result<Cgroup> {
    let cgroup = Cgroup::open(&target.path)?;
    if cgroup.id() != target.cgroup {
        bail!(
            "open cgroup \"{}\": another cgroup has this path now",
            target.path.display()
        );
    }
    Ok(cgroup)
}

fn find_pod(writer: &Writer, cgroup: CgroupId) -> Result<Option<Pod>> {
    Ok(writer.pods()?.into_iter().find(|pod| pod.id == cgroup))
}
