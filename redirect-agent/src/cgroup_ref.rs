//! How a workload's cgroup is named, and finding it: it may come and go while the name stays.

use std::{
    cell::OnceCell,
    fmt, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use redirect_user::sys::cgroup::mounts;

use crate::kubepods::Kubepods;

/// The name of a cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CgroupRef {
    /// Its folder.
    Path(PathBuf),
    /// That of a unit of the system's systemd, in whichever slice it is: `shop.service`.
    Unit(String),
    /// That of a pod of this node's kubelet, by the uid that the kubelet knows it by.
    Pod(String),
}

/// Where cgroups are at the moment: looked up once for many of them.
#[derive(Clone, Debug)]
pub struct Hierarchies {
    mounts: Vec<PathBuf>,
    kubepods: OnceCell<Kubepods>,
}

impl Hierarchies {
    /// Those that this process sees.
    pub fn mounted() -> Result<Self> {
        Ok(Self::at(mounts()?))
    }

    /// Those mounted at these folders.
    pub const fn at(mounts: Vec<PathBuf>) -> Self {
        Self {
            mounts,
            kubepods: OnceCell::new(),
        }
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
    /// Its folder; `None` if there is none at the moment.
    pub fn find(&self, hierarchies: &Hierarchies) -> Result<Option<PathBuf>> {
        let mounts = &hierarchies.mounts;
        match self {
            Self::Path(path) => {
                let exists = path
                    .try_exists()
                    .with_context(|| format!("look for cgroup \"{}\"", path.display()))?;
                Ok(exists.then(|| path.clone()))
            }
            Self::Unit(unit) => Ok(mounts.iter().find_map(|mount| in_slices(mount, unit))),
            Self::Pod(uid) => {
                let kubepods = &hierarchies.kubepods;
                let kubepods = kubepods.get_or_init(|| Kubepods::below(mounts));
                Ok(kubepods.pod(uid))
            }
        }
    }
}

/// The folder of a unit below a slice: only slices are searched, because what else has units in it
/// is a user's systemd, or a container's, and those are others of the same name
/// (systemd.slice(5)).
fn in_slices(slice: &Path, unit: &str) -> Option<PathBuf> {
    let own = slice.join(unit);
    if own.is_dir() {
        return Some(own);
    }
    let children = fs::read_dir(slice).ok()?.flatten();
    children
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "slice"))
        .find_map(|slice| in_slices(&slice, unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_found_in_any_slice_and_nowhere_else() {
        let root = std::env::temp_dir().join(format!("redirect-slices-{}", std::process::id()));
        for folder in [
            "system.slice/system-shop.slice/shop@1.service",
            "user.slice/user-1000.slice/user@1000.service/app.slice/mine.service",
            "top.service",
        ] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        let find = |unit| in_slices(&root, unit);
        assert_eq!(
            find("shop@1.service"),
            Some(root.join("system.slice/system-shop.slice/shop@1.service"))
        );
        assert_eq!(find("top.service"), Some(root.join("top.service")));
        assert_eq!(find("mine.service"), None);
        fs::remove_dir_all(&root).unwrap();
    }
}
