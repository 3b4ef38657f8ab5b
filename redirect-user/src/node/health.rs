//! The health of a pod: whether the kernel runs every program that the pod's row relies on.
//!
//! A pod is attached if its row names a policy. The row alone redirects nothing: each hook needs its
//! link, and other programs can remove a pin, detach a link, or attach programs of their own.

use std::{fmt, fs::File, io, os::fd::AsFd as _, path::Path};

use anyhow::{Context as _, Result};
use redirect_common::hooks::Hook;
use rustix::io::Errno;
use serde::{Serialize, Serializer};

use super::{
    layout_folders::programs_of_others,
    reader::{Pod, Reader},
};
use crate::{
    bpf::{program_id, program_names},
    sys::{
        attached::{LinkInfo, LinkTarget, effective_programs},
        cgroup::{self, CgroupId},
    },
};

/// The reason why a program does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Nothing is pinned in place of the link.
    NoLink,
    /// An object that is not the link of this hook is pinned in place of the link.
    OtherObject,
    /// The link is attached to nothing.
    Detached,
    /// The link is attached to another cgroup.
    OtherTarget,
    /// The link runs another program than the pinned one, although both should be of this build.
    OtherProgram,
    /// The link is attached, but the program is not among those that run for the cgroup.
    NotRun,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoLink => "its link is gone",
            Self::OtherObject => "another object is pinned in place of its link",
            Self::Detached => "its link was detached",
            Self::OtherTarget => "its link is attached elsewhere",
            Self::OtherProgram => "its link runs another program",
            Self::NotRun => "the kernel does not run it",
        })
    }
}

/// A program that a pod lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MissingProgram {
    /// The hook of the program.
    #[serde(serialize_with = "program_name")]
    pub hook: Hook,
    /// The reason why the program does not run.
    #[serde(serialize_with = "text")]
    pub reason: Fault,
}

impl fmt::Display for MissingProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.hook.program(), self.reason)
    }
}

/// A program of another owner that runs for a pod's cgroup at one of its hooks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ForeignProgram {
    /// The hook.
    #[serde(serialize_with = "program_name")]
    pub hook: Hook,
    /// The program's name; empty if it has none, or if this process may not read it.
    pub program: String,
    /// The kernel's id of the program.
    pub id: u32,
}

impl fmt::Display for ForeignProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hook, program, id } = self;
        write!(f, "{}: \"{program}\" (id {id})", hook.program())
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
fn program_name<S: Serializer>(hook: &Hook, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(hook.program())
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
fn text<S: Serializer>(fault: &Fault, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(fault)
}

/// The health of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// The programs that the pod lacks, in the order of attaching.
    pub missing: Vec<MissingProgram>,
    /// The programs of others, in the order of the hooks. Empty if this process may not ask for them.
    pub foreign: Vec<ForeignProgram>,
}

impl Health {
    /// The state in one word: `attached`, or `damaged` if a program is missing.
    pub const fn state(&self) -> &'static str {
        if self.missing.is_empty() {
            "attached"
        } else {
            "damaged"
        }
    }
}

/// A list of missing programs, as text.
pub fn missing_text(missing: &[MissingProgram]) -> String {
    let texts: Vec<_> = missing.iter().map(ToString::to_string).collect();
    texts.join(", ")
}

/// The pinned programs, which links should run.
struct PinnedPrograms {
    /// The kernel's ids, in the order of the hooks; `None` where a pin is gone.
    ids: [Option<u32>; Hook::ALL.len()],
    /// Whether all programs are of this build, as far as is known.
    is_current: bool,
}

/// The link of a hook: its program, or the reason why it does not run one.
type CheckedLink = Result<u32, Fault>;

impl Reader {
    /// The health of pods, in the order of the pods, by the links and by the kernel's lists of the
    /// programs that run.
    pub fn health(&self, pods: &[Pod]) -> Result<Vec<Health>> {
        let paths = cgroup::find(&pods.iter().map(|pod| pod.id).collect::<Vec<_>>())?;
        let pinned = self.pinned_programs()?;
        let mut health: Vec<_> = pods
            .iter()
            .zip(&paths)
            .map(|(pod, path)| self.health_of(pod, path.as_deref(), &pinned))
            .collect::<Result<_>>()?;
        name_foreign(&mut health);
        Ok(health)
    }

    /// The programs that a pod lacks, as far as its links tell. Cheaper than [`Self::health`], which also
    /// asks which programs run.
    pub fn missing(&self, pod: &Pod) -> Result<Vec<MissingProgram>> {
        let pinned = self.pinned_programs()?;
        Ok(self.health_of(pod, None, &pinned)?.missing)
    }

    fn pinned_programs(&self) -> Result<PinnedPrograms> {
        Ok(PinnedPrograms {
            ids: Hook::ALL.map(|hook| program_id(self.pins(), hook)),
            is_current: self.is_current()?,
        })
    }

    fn health_of(
        &self,
        pod: &Pod,
        cgroup: Option<&Path>,
        pinned: &PinnedPrograms,
    ) -> Result<Health> {
        let mut health = Health::default();
        // A cgroup that cannot be opened is being removed.
        let mut cgroup = cgroup.and_then(|path| File::open(path).ok());
        for (hook, expected) in Hook::ALL.into_iter().zip(pinned.ids) {
            let mut link = self.check_link(pod.id, hook)?;
            // Where builds are mixed, each of them is right.
            if let (Ok(program), Some(expected)) = (link, expected)
                && pinned.is_current
                && program != expected
            {
                link = Err(Fault::OtherProgram);
            }
            let running = match &cgroup {
                Some(folder) => running(folder, hook)?,
                None => None,
            };
            if running.is_none() {
                cgroup = None;
            }
            if let (Ok(program), Some(running)) = (link, &running)
                && !running.contains(&program)
            {
                link = Err(Fault::NotRun);
            }
            if let Some(running) = running {
                let mut own = programs_of_others(self.pins(), pod.id, hook)?;
                own.extend(link.ok());
                // The link of a pin that is gone can live on in another process.
                own.extend(expected);
                let others = running.into_iter().filter(|id| !own.contains(id));
                health.foreign.extend(others.map(|id| ForeignProgram {
                    hook,
                    program: String::new(),
                    id,
                }));
            }
            let missing = link.err().map(|reason| MissingProgram { hook, reason });
            health.missing.extend(missing);
        }
        if pod.row.flags.inbound() {
            let hook = Hook::SkLookup;
            let missing = self.check_link(pod.id, hook)?.err();
            let missing = missing.map(|reason| MissingProgram { hook, reason });
            health.missing.extend(missing);
        }
        Ok(health)
    }

    /// Checks the pin of a link, the link's hook, and its target.
    pub(super) fn check_link(&self, id: CgroupId, hook: Hook) -> Result<CheckedLink> {
        let path = self.pins().link(id, hook);
        let info = match LinkInfo::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Err(Fault::NoLink));
            }
            Err(_) if path.is_dir() => return Ok(Err(Fault::OtherObject)),
            info => info.with_context(|| format!("read link \"{}\"", path.display()))?,
        };
        let Some(info) = info.filter(|info| info.attach_type == hook.attach_type()) else {
            return Ok(Err(Fault::OtherObject));
        };
        Ok(match info.target {
            LinkTarget::Detached => Err(Fault::Detached),
            LinkTarget::Cgroup(target) if target != id => Err(Fault::OtherTarget),
            LinkTarget::Cgroup(_) | LinkTarget::Netns(_) => Ok(info.program),
        })
    }
}

/// The programs that run for a cgroup at a hook; `None` if this process may not ask, or if the cgroup is
/// gone.
fn running(cgroup: &File, hook: Hook) -> Result<Option<Vec<u32>>> {
    match effective_programs(cgroup.as_fd(), hook.attach_type()) {
        Ok(programs) => Ok(Some(programs)),
        Err(error)
            if [Errno::PERM, Errno::ACCESS, Errno::NODEV, Errno::NOENT]
                .iter()
                .any(|errno| error.raw_os_error() == Some(errno.raw_os_error())) =>
        {
            Ok(None)
        }
        Err(error) => Err(error).context("read the programs of a cgroup"),
    }
}

/// Fills in the names of foreign programs.
fn name_foreign(health: &mut [Health]) {
    let mut foreign = health
        .iter_mut()
        .flat_map(|pod| &mut pod.foreign)
        .peekable();
    if foreign.peek().is_none() {
        return;
    }
    let names = program_names();
    for program in foreign {
        program.program = names.get(&program.id).cloned().unwrap_or_default();
    }
}
