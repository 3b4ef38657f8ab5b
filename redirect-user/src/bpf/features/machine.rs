//! The probes of the machine itself: capabilities, file systems, BTF and system calls.

use std::{io, path::Path};

use redirect_common::hooks::{FLOOR, KernelVersion};
use rustix::{system::uname, thread::CapabilitySet};

use super::{
    cause::{chain, is_denied, read},
    probe::Availability,
};
use crate::{
    bpf::btf::{BtfError, owner_offsets},
    sys::{
        bpffs::{MOUNT_POINT, is_bpffs},
        capability, cgroup,
        kernel_features::kernel_features,
        netns::{NetnsRef, NetnsSnapshot},
    },
};

/// The kernel's version. It is only shown and does not decide, because distributions backport
/// features.
pub(super) fn kernel() -> Availability {
    let release = uname().release().to_string_lossy().into_owned();
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|number| number.parse().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(major), Some(minor)) if KernelVersion { major, minor } < FLOOR => {
            Availability::missing(
                format!("{release} is older than {FLOOR}"),
                format!("unless every other check passes, use Linux {FLOOR} or newer"),
            )
        }
        _ => Availability::Present(release),
    }
}

pub(super) fn has(capability: CapabilitySet) -> Availability {
    match capability::has(capability) {
        Ok(true) => Availability::Present(String::new()),
        Ok(false) => Availability::missing(
            "this process does not have it",
            "run as root, or with this capability",
        ),
        Err(error) => Availability::Unknown(format!("{error:#}")),
    }
}

pub(super) fn cgroup2() -> Availability {
    match cgroup::mounts() {
        Ok(mounts) if mounts.is_empty() => Availability::missing(
            "it is not mounted",
            "`mount -t cgroup2 none FOLDER`, or boot with systemd.unified_cgroup_hierarchy=1",
        ),
        Ok(mounts) => {
            let paths: Vec<_> = mounts
                .iter()
                .map(|path| path.display().to_string())
                .collect();
            Availability::Present(paths.join(", "))
        }
        Err(error) => Availability::Unknown(format!("{error:#}")),
    }
}

pub(super) fn bpffs(state_dir: &Path) -> Availability {
    let existing = state_dir
        .ancestors()
        .find(|path| path.exists())
        .unwrap_or(state_dir);
    match is_bpffs(existing) {
        Ok(true) => Availability::Present(existing.display().to_string()),
        Ok(false) if state_dir.starts_with(MOUNT_POINT) && mountable() => Availability::Present(
            format!("not mounted yet; `attach` mounts it at {MOUNT_POINT}"),
        ),
        Ok(false) => Availability::missing(
            format!("\"{}\" is not on one", existing.display()),
            format!("`mount -t bpf bpf {MOUNT_POINT}`"),
        ),
        Err(error) => Availability::Unknown(format!("{error:#}")),
    }
}

fn mountable() -> bool {
    let known = read("/proc/filesystems")
        .is_some_and(|kinds| kinds.lines().any(|kind| kind.ends_with("\tbpf")));
    known
        && Path::new(MOUNT_POINT).is_dir()
        && capability::has(CapabilitySet::SYS_ADMIN).unwrap_or(false)
}

pub(super) fn btf() -> Availability {
    match owner_offsets() {
        Ok(_) => Availability::Present(String::new()),
        Err(BtfError::Missing { path, source })
            if source.kind() == io::ErrorKind::PermissionDenied =>
        {
            Availability::Unknown(format!("may not read \"{path}\""))
        }
        Err(error @ BtfError::Missing { .. }) => Availability::missing(
            chain(&error.into()),
            "use a kernel built with CONFIG_DEBUG_INFO_BTF=y",
        ),
        Err(error @ (BtfError::Malformed(_) | BtfError::NoMember { .. })) => Availability::missing(
            chain(&error.into()),
            "this kernel stores a socket's owner in a new way: please report its version",
        ),
    }
}

pub(super) fn netns() -> Availability {
    match NetnsSnapshot::read(&NetnsRef::Own) {
        Ok(_) if kernel_features().netns_cookie() => Availability::Present(String::new()),
        Ok(_) => Availability::Present("known by the inode, as before Linux 5.15".to_owned()),
        Err(error) if is_denied(&error) => Availability::Unknown(chain(&error)),
        Err(error) => Availability::missing(chain(&error), format!("use Linux {FLOOR} or newer")),
    }
}

/// Whether programs see the interface by which an inbound connection arrives.
pub(super) fn ingress_interface() -> Availability {
    if kernel_features().ingress_ifindex() {
        Availability::Present(String::new())
    } else {
        Availability::missing(
            "socket lookups do not tell the interface",
            "use Linux 5.17 or newer, or leave -c out where there is -b",
        )
    }
}
