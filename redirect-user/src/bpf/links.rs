//! The attachment of programs: pinned programs to a cgroup, the lookup program to a network
//! namespace.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd, BorrowedFd},
    path::Path,
};

use anyhow::{Context as _, Result, bail};
use aya::programs::{ProgramInfo, loaded_programs};
use redirect_common::hooks::Hook;
use rustix::io::Errno;

use super::{object, pins::Pins};
use crate::sys::{self, cgroup::CgroupId};

/// Attaches a pinned program and pins the link, which then lives as long as the pin and the cgroup.
pub fn attach(pins: &Pins, hook: Hook, cgroup: impl AsFd, pin: &Path) -> Result<()> {
    let program = pins.program(hook);
    check(&program, hook)?;
    let link = sys::bpf::link_cgroup(&program, cgroup.as_fd(), hook.attach_type())
        .with_context(|| {
            format!(
                "attach program `{}` (a program on a cgroup above can forbid it, also on one that is not visible here)",
                hook.program()
            )
        })?;
    sys::bpf::pin(link.as_fd(), pin).with_context(|| format!("pin link \"{}\"", pin.display()))
}

/// Attaches the lookup program to a pod's network namespace, and pins the link.
pub fn attach_inbound(pins: &Pins, pod: CgroupId, netns: BorrowedFd<'_>) -> Result<()> {
    let pin = pins.link(pod, Hook::SkLookup);
    object::attach_inbound(pins, pod, netns)?
        .pin(&pin)
        .map(drop)
        .with_context(|| format!("pin link \"{}\"", pin.display()))
}

/// Replaces the program of a pinned link with the pinned program. A link whose cgroup is gone stays
/// as it is.
pub fn replace(pins: &Pins, hook: Hook, link: &Path) -> Result<()> {
    let path = pins.program(hook);
    check(&path, hook)?;
    let program = sys::bpf::open(&path).with_context(|| format!("open \"{}\"", path.display()))?;
    ignore_unlinked(sys::bpf::update(link, program.as_fd()), link)
}

/// Replaces the lookup program of a pod with that of this build.
pub fn replace_inbound(pins: &Pins, pod: CgroupId) -> Result<()> {
    let link = pins.link(pod, Hook::SkLookup);
    object::with_inbound(pins, pod, |program| {
        let program = program.fd().context("load it first")?;
        ignore_unlinked(sys::bpf::update(&link, program.as_fd()), &link)
    })
}

/// Ignores `ENOLINK`, which means that the cgroup or namespace of the link is gone.
fn ignore_unlinked(updated: io::Result<()>, link: &Path) -> Result<()> {
    match updated {
        Err(error) if error.raw_os_error() == Some(Errno::NOLINK.raw_os_error()) => Ok(()),
        other => {
            other.with_context(|| format!("replace the program of link \"{}\"", link.display()))
        }
    }
}

/// Refuses a pin that is not the expected program.
fn check(path: &Path, hook: Hook) -> Result<()> {
    let foreign = || {
        format!(
            "open program \"{}\": it is not one of this version's: remove all with `redirectctl uninstall`, then attach anew",
            path.display()
        )
    };
    let info = ProgramInfo::from_pin(path).with_context(foreign)?;
    if info.name_as_str() != Some(hook.program()) {
        bail!(
            "{} (its name is {:?})",
            foreign(),
            info.name_as_str().unwrap_or_default()
        );
    }
    Ok(())
}

/// The kernel's id of a pinned program; `None` if the pin is gone, or not a program.
pub fn program_id(pins: &Pins, hook: Hook) -> Option<u32> {
    let info = ProgramInfo::from_pin(pins.program(hook)).ok()?;
    Some(info.id())
}

/// The names of all loaded programs, by their ids, as far as this process may read them.
pub fn program_names() -> BTreeMap<u32, String> {
    let programs = loaded_programs().filter_map(Result::ok);
    programs
        .map(|info| (info.id(), info.name_as_str().unwrap_or_default().to_owned()))
        .collect()
}

/// The size of a pinned program: the number of instructions after the verifier's rewriting, and the
/// number of instructions that the verifier walked, which the kernel tells since Linux 5.16.
/// `budget.txt` records both.
pub fn program_report(pins: &Pins, hook: Hook) -> Result<(u32, Option<u32>)> {
    report(&info(pins, hook)?)
}

/// The same for the program of a pinned link.
pub fn linked_program_report(link: &Path) -> Result<(u32, Option<u32>)> {
    report(&linked_info(link)?)
}

/// The kernel's information about a pinned program.
pub(super) fn info(pins: &Pins, hook: Hook) -> Result<ProgramInfo> {
    ProgramInfo::from_pin(pins.program(hook))
        .with_context(|| format!("open program `{}`", hook.program()))
}

/// The kernel's information about the program of a pinned link.
pub(super) fn linked_info(link: &Path) -> Result<ProgramInfo> {
    let id = sys::attached::program_of_link(link)?;
    loaded_programs()
        .filter_map(Result::ok)
        .find(|info| info.id() == id)
        .with_context(|| format!("find the program of link \"{}\"", link.display()))
}

fn report(info: &ProgramInfo) -> Result<(u32, Option<u32>)> {
    // An instruction has eight bytes (struct bpf_insn).
    let instructions = info.size_translated().context("read the program's size")? >> 3;
    Ok((instructions, info.verified_instruction_count()))
}
