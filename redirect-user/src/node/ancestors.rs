//! The programs on a cgroup and on the cgroups above it, which an attach can stop, or be refused by.
//!
//! A program that was attached with `BPF_F_ALLOW_OVERRIDE` stops running below a link of the same hook, and
//! one that was attached without flags makes the kernel refuse the link with a bare EPERM
//! (`compute_effective_progs` and `hierarchy_allows_attach`, kernel/bpf/cgroup.c). Links, and programs that
//! were attached with `BPF_F_ALLOW_MULTI`, run beside each other.

use std::{
    fmt,
    fs::File,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
};

use redirect_common::hooks::Hook;
use thiserror::Error;

use crate::{
    bpf::program_names,
    sys::{
        attached::{AttachMode, OwnPrograms, own_programs},
        cgroup::{Cgroup, is_cgroup2},
    },
};

/// A program that does not allow a link below it, or beside it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct Conflict {
    hook: Hook,
    /// The cgroup that the link is for.
    cgroup: PathBuf,
    /// The cgroup that the program is attached to.
    holder: PathBuf,
    program: String,
    id: u32,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The program on a cgroup above would no longer run for the cgroup.
    Replaced,
    /// The kernel allows no link below the program.
    Forbidden,
    /// The kernel allows no link beside the program.
    Alone,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            hook,
            cgroup,
            holder,
            program,
            id,
            kind,
        } = self;
        let (hook, cgroup, holder) = (hook.program(), cgroup.display(), holder.display());
        write!(
            f,
            "attach program `{hook}` to cgroup \"{cgroup}\": program \"{program}\" (id {id}) "
        )?;
        match kind {
            Kind::Replaced => write!(
                f,
                "on cgroup \"{holder}\" above was attached with BPF_F_ALLOW_OVERRIDE, and would no longer run for this one: have its owner attach it with BPF_F_ALLOW_MULTI, or accept that with `redirectctl attach --allow-override`"
            ),
            Kind::Forbidden => write!(
                f,
                "on cgroup \"{holder}\" above was attached without flags, which forbids programs of this hook below: have its owner attach it with BPF_F_ALLOW_MULTI, or detach it"
            ),
            Kind::Alone => f.write_str(
                "on the same cgroup was attached without BPF_F_ALLOW_MULTI, which forbids another program beside it: have its owner attach it with BPF_F_ALLOW_MULTI, or detach it",
            ),
        }
    }
}

/// Finds the first program that is in conflict with links of these hooks on a cgroup. With
/// `allow_override`, a program that would no longer run is none.
pub(super) fn check(
    cgroup: &Cgroup,
    hooks: impl IntoIterator<Item = Hook>,
    allow_override: bool,
) -> Result<(), Conflict> {
    let folders = cgroup.path().ancestors();
    let chain: Vec<_> = folders
        .take_while(|folder| is_cgroup2(folder))
        // A cgroup that cannot be opened is being removed.
        .filter_map(|folder| Some((folder, File::open(folder).ok()?)))
        .collect();
    for hook in hooks {
        // The kernel refuses the attach if the programs of a cgroup cannot be read.
        let programs = |folder: &File| own_programs(folder.as_fd(), hook.attach_type()).ok();
        let found = chain
            .iter()
            .filter_map(|(path, folder)| Some((*path, programs(folder)?)));
        if let Some((holder, id, kind)) = conflict(cgroup.path(), found)
            && !(allow_override && kind == Kind::Replaced)
        {
            return Err(Conflict {
                hook,
                cgroup: cgroup.path().to_owned(),
                holder: holder.to_owned(),
                program: program_names().remove(&id).unwrap_or_default(),
                id,
                kind,
            });
        }
    }
    Ok(())
}

/// The program that is in conflict with a link on a cgroup, from the programs of a hook on the cgroup and
/// on each one above, from below.
fn conflict<'a>(
    cgroup: &Path,
    programs: impl Iterator<Item = (&'a Path, OwnPrograms)>,
) -> Option<(&'a Path, u32, Kind)> {
    let mut is_replaced_already = false;
    for (holder, OwnPrograms { programs, mode }) in programs {
        let Some(&id) = programs.first() else {
            continue;
        };
        let is_own = holder == cgroup;
        match mode {
            // The programs above are not looked at by the kernel, and what they replace is replaced already.
            AttachMode::Multi if !is_own => return None,
            AttachMode::Multi => is_replaced_already = true,
            AttachMode::Override | AttachMode::Exclusive if is_own => {
                return Some((holder, id, Kind::Alone));
            }
            AttachMode::Override if is_replaced_already => return None,
            AttachMode::Override => return Some((holder, id, Kind::Replaced)),
            AttachMode::Exclusive => return Some((holder, id, Kind::Forbidden)),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_program_above_decides_whether_a_link_is_allowed() {
        use AttachMode::{Exclusive, Multi, Override};
        let (pod, slice, root) = ("/c/slice/pod", "/c/slice", "/c");
        for (programs, expected) in [
            (vec![], None),
            (vec![(slice, Multi)], None),
            (vec![(slice, Override)], Some((slice, Kind::Replaced))),
            (vec![(slice, Exclusive)], Some((slice, Kind::Forbidden))),
            (vec![(root, Override)], Some((root, Kind::Replaced))),
            (vec![(slice, Multi), (root, Exclusive)], None),
            (
                vec![(slice, Override), (root, Exclusive)],
                Some((slice, Kind::Replaced)),
            ),
            (vec![(pod, Multi)], None),
            (vec![(pod, Multi), (slice, Override)], None),
            (
                vec![(pod, Multi), (slice, Exclusive)],
                Some((slice, Kind::Forbidden)),
            ),
            (vec![(pod, Override)], Some((pod, Kind::Alone))),
            (vec![(pod, Exclusive)], Some((pod, Kind::Alone))),
        ] {
            let found = programs.iter().map(|(holder, mode)| {
                let programs = vec![7];
                (
                    Path::new(holder),
                    OwnPrograms {
                        programs,
                        mode: *mode,
                    },
                )
            });
            let found = conflict(Path::new(pod), found);
            let expected = expected.map(|(holder, kind)| (Path::new(holder), 7, kind));
            assert_eq!(found, expected, "{programs:?}");
        }
    }
}
