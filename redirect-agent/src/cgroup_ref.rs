//! References to cgroups: a reference stays the same while the cgroup comes and goes.

use std::{
    cell::OnceCell,
    fmt, fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use redirect_user::sys::cgroup::{is_gone, mounts};

use crate::kubepods::Kubepods;

/// A reference to a cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CgroupRef {
    /// The cgroup at this path.
    Path(PathBuf),
    /// The cgroup of this unit of the system's systemd, in any slice: `shop.service`.
    Unit(String),
    /// The cgroup of this pod of the node's kubelet, by the uid that the kubelet knows.
    Pod(String),
}

/// The mounted cgroup hierarchies at one moment: the kubelet's cgroups are looked up once for many
/// references.
#[derive(Clone, Debug)]
pub struct Hierarchies {
    mounts: Vec<PathBuf>,
    kubepods: OnceCell<Kubepods>,
}

impl Hierarchies {
    /// The hierarchies that this process sees.
    pub fn mounted() -> Result<Self> {
        Ok(Self::at(mounts()?))
    }

    /// The hierarchies mounted at these paths.
    pub const fn at(mounts: Vec<PathBuf>) -> Self {
        Self {
            mounts,
            kubepods: OnceCell::new(),
        }
    }

    /// The cgroups that hold all pods.
    fn kubepods(&self) -> Result<&Kubepods> {
        if let Some(found) = self.kubepods.get() {
            return Ok(found);
        }
        let found = Kubepods::below(&self.mounts).context("look for the kubelet's cgroups")?;
        Ok(self.kubepods.get_or_init(|| found))
    }
}

impl fmt::Display for CgroupRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Unit(unit) => f.write_str(unit),
            Self::Pod(uid) => write!(f, "pod {uid}"),
        }
    }
}

impl CgroupRef {
    /// Path of the cgroup; `None` if it does not exist. An error means that its existence is unknown.
    pub fn find(&self, hierarchies: &Hierarchies) -> Result<Option<PathBuf>> {
        let mounts = &hierarchies.mounts;
        match self {
            Self::Path(path) => {
                let exists = path
                    .try_exists()
                    .with_context(|| format!("look for cgroup \"{}\"", path.display()))?;
                Ok(exists.then(|| path.clone()))
            }
            Self::Unit(unit) => {
                let found = mounts
                    .iter()
                    .map(|mount| in_slices(mount, unit))
                    .find_map(Result::transpose);
                let looking = || format!("look for the cgroup of \"{unit}\"");
                found.transpose().with_context(looking)
            }
            Self::Pod(uid) => {
                let looking = || format!("look for the cgroup of pod {uid}");
                hierarchies.kubepods()?.pod(uid).with_context(looking)
            }
        }
    }

    /// Why the cgroup could not be seen even if it existed, if that is so.
    pub fn obstacle(&self, hierarchies: &Hierarchies) -> Option<&'static str> {
        match self {
            Self::Pod(_) if hierarchies.kubepods().is_ok_and(Kubepods::is_empty) => Some(
                "no kubepods in a cgroup v2 hierarchy: mount the node's hierarchy, or let its kubelet use cgroup v2",
            ),
            Self::Path(_) | Self::Unit(_) | Self::Pod(_) => None,
        }
    }
}

/// The cgroup of a unit below a slice. Only slices are searched: units elsewhere belong to a user's systemd
/// or to a container's, and have the same names (systemd.slice(5)).
fn in_slices(slice: &Path, unit: &str) -> io::Result<Option<PathBuf>> {
    let own = slice.join(unit);
    if own.is_dir() {
        return Ok(Some(own));
    }
    let entries = match fs::read_dir(slice) {
        Err(error) if is_gone(&error) => return Ok(None),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|kind| kind == "slice")
            && let Some(found) = in_slices(&path, unit)?
        {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_without_kubepods_is_reported_for_pods_only() {
        let nowhere = Hierarchies::at(vec![PathBuf::from("/nowhere")]);
        let pod = CgroupRef::Pod("5f6c".to_owned());
        assert_eq!(pod.find(&nowhere).unwrap(), None);
        let obstacle = pod.obstacle(&nowhere).unwrap();
        assert!(obstacle.starts_with("no kubepods"), "{obstacle}");
        let unit = CgroupRef::Unit("shop.service".to_owned());
        assert_eq!(unit.obstacle(&nowhere), None);
    }

    #[test]
    fn a_unit_is_found_in_any_slice_and_nowhere_else() {
        let root = std::env::temp_dir().join(format!("redirect-slices-{}", std::process::id()));
        for dir in [
            "system.slice/system-shop.slice/shop@1.service",
            "user.slice/user-1000.slice/user@1000.service/app.slice/mine.service",
            "top.service",
        ] {
            fs::create_dir_all(root.join(dir)).unwrap();
        }
        let find = |unit| in_slices(&root, unit).unwrap();
        assert_eq!(
            find("shop@1.service"),
            Some(root.join("system.slice/system-shop.slice/shop@1.service"))
        );
        assert_eq!(find("top.service"), Some(root.join("top.service")));
        assert_eq!(find("mine.service"), None);
        fs::remove_dir_all(&root).unwrap();
    }
}
