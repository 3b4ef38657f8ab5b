//! The cgroups of the kubelet's pods. Their names are the kubelet's own, so no container runtime has to be
//! asked.
//!
//! ```text
//! cgroupfs   kubepods/[besteffort|burstable/]pod<UID>
//! systemd    kubepods.slice/[kubepods-burstable.slice/]kubepods-burstable-pod<UID, - as _>.slice
//! ```
//!
//! Both may be below another cgroup (`--cgroup-root`, or a node that is itself a container), and systemd
//! repeats its name in that of each slice: `kubelet.slice/kubelet-kubepods.slice/…`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use redirect_user::sys::cgroup::is_gone;

/// Classes with a cgroup of their own; guaranteed pods are above them.
const CLASSES: [&str; 2] = ["burstable", "besteffort"];

/// Depth of the search: deeper than a node in a container in a pod.
const DEEPEST: usize = 12;

/// The cgroups that hold all pods of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kubepods(Vec<Root>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Root {
    path: PathBuf,
    /// Prefix of the slices below, if systemd manages them.
    slice: Option<String>,
}

impl Kubepods {
    /// Finds them in these mounts of cgroup2. Cgroups at the top of a mount belong to this node; deeper ones
    /// are searched for only if there are none.
    pub fn below(mounts: &[PathBuf]) -> io::Result<Self> {
        let mut roots = Vec::new();
        for mount in mounts {
            let top = children(mount)?;
            let top: Vec<_> = top.iter().filter_map(|path| Root::of(path)).collect();
            if top.is_empty() {
                collect(mount, DEEPEST, &mut roots)?;
            } else {
                roots.extend(top);
            }
        }
        Ok(Self(roots))
    }

    /// Whether the node has none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The cgroup of the pod with this uid, as the kubelet knows it; `None` if there is none.
    pub fn pod(&self, uid: &str) -> io::Result<Option<PathBuf>> {
        // The uid becomes a part of a path.
        if !uid
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        {
            return Ok(None);
        }
        for path in self.0.iter().flat_map(|root| root.places(uid)) {
            match fs::metadata(&path) {
                Ok(_) => return Ok(Some(path)),
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}

impl Root {
    /// The cgroup of all pods, if this is the kubelet's name for it.
    fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let slice = match name.strip_suffix(".slice") {
            None => (name == "kubepods").then_some(None)?,
            Some(stem) => {
                let is_one = stem == "kubepods" || stem.ends_with("-kubepods");
                is_one.then(|| Some(stem.to_owned()))?
            }
        };
        Some(Self {
            path: path.to_owned(),
            slice,
        })
    }

    /// Paths at which a pod can be.
    fn places(&self, uid: &str) -> Vec<PathBuf> {
        let Self { path, slice } = self;
        match slice {
            None => {
                let name = format!("pod{uid}");
                let class = |class| path.join(class).join(&name);
                [path.join(&name)]
                    .into_iter()
                    .chain(CLASSES.map(class))
                    .collect()
            }
            Some(stem) => {
                let name = format!("pod{}.slice", uid.replace('-', "_"));
                let class = |class| {
                    path.join(format!("{stem}-{class}.slice"))
                        .join(format!("{stem}-{class}-{name}"))
                };
                [path.join(format!("{stem}-{name}"))]
                    .into_iter()
                    .chain(CLASSES.map(class))
                    .collect()
            }
        }
    }
}

fn collect(dir: &Path, depth: usize, roots: &mut Vec<Root>) -> io::Result<()> {
    for path in children(dir)? {
        match Root::of(&path) {
            Some(root) => roots.push(root),
            None if depth > 0 => collect(&path, depth - 1, roots)?,
            None => {}
        }
    }
    Ok(())
}

/// Directories in a directory; none if it has gone.
fn children(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let listed = fs::read_dir(dir).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let entries = match listed {
        Err(error) if is_gone(&error) => Vec::new(),
        listed => listed?,
    };
    let dirs = entries
        .iter()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    Ok(dirs.map(fs::DirEntry::path).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    static SERIAL: AtomicU32 = AtomicU32::new(0);
    const UID: &str = "5f6cbb21-9a0e-4f3a-8d0b-0a1b2c3d4e5f";
    /// The kubelet's uid of a static pod: no dashes.
    const HASH: &str = "0123456789abcdef0123456789abcdef";

    /// A tree of directories, removed on drop.
    struct Tree(PathBuf);

    impl Tree {
        fn of(dirs: &[&str]) -> Self {
            let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
            let name = format!("redirect-kubepods-{}-{serial}", std::process::id());
            let tree = Self(std::env::temp_dir().join(name));
            for dir in dirs {
                fs::create_dir_all(tree.0.join(dir)).unwrap();
            }
            tree
        }

        /// The cgroup of a pod, relative to the mount.
        fn pod(&self, uid: &str) -> Option<String> {
            let kubepods = Kubepods::below(std::slice::from_ref(&self.0)).unwrap();
            let found = kubepods.pod(uid).unwrap()?;
            let path = found.strip_prefix(&self.0).unwrap();
            Some(path.display().to_string())
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap_or_default();
        }
    }

    #[test]
    fn a_pod_is_found_with_each_driver_and_in_each_class() {
        let slices = "5f6cbb21_9a0e_4f3a_8d0b_0a1b2c3d4e5f";
        let nested = "system.slice/docker-0af3.scope/kubelet.slice/kubelet-kubepods.slice";
        for (place, uid) in [
            (format!("kubepods/pod{UID}"), UID),
            (format!("kubepods/burstable/pod{UID}"), UID),
            (format!("kubepods/besteffort/pod{UID}"), UID),
            (format!("kubepods/burstable/pod{HASH}"), HASH),
            (format!("kubepods.slice/kubepods-pod{slices}.slice"), UID),
            (
                format!(
                    "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{slices}.slice"
                ),
                UID,
            ),
            (
                format!(
                    "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{slices}.slice"
                ),
                UID,
            ),
            (
                format!(
                    "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{HASH}.slice"
                ),
                HASH,
            ),
            (format!("kubelet/kubepods/besteffort/pod{UID}"), UID),
            (
                format!("docker/0af3/kubelet/kubepods/burstable/pod{UID}"),
                UID,
            ),
            (
                format!("kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{slices}.slice"),
                UID,
            ),
            (
                format!(
                    "{nested}/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod{slices}.slice"
                ),
                UID,
            ),
        ] {
            let container = format!("{place}/cri-containerd-0af3.scope");
            let tree = Tree::of(&["system.slice/ssh.service", &container]);
            assert_eq!(tree.pod(uid), Some(place));
            assert_eq!(tree.pod("another"), None);
        }
    }

    #[test]
    fn a_longer_uid_does_not_match() {
        let tree = Tree::of(&["kubepods/besteffort/pod5f6c-1"]);
        assert_eq!(tree.pod("5f6c"), None);
    }

    #[test]
    fn a_nested_node_is_ignored_if_this_one_has_kubepods() {
        let inner = "docker/0af3/kubelet/kubepods/pod5f6c";
        let tree = Tree::of(&["kubepods/burstable", inner]);
        assert_eq!(tree.pod("5f6c"), None);
        let alone = Tree::of(&[inner]);
        assert_eq!(alone.pod("5f6c").as_deref(), Some(inner));
    }

    #[test]
    fn both_drivers_are_searched_after_a_change_of_driver() {
        let tree = Tree::of(&[
            "kubepods/burstable",
            "kubepods.slice/kubepods-pod5f6c.slice",
        ]);
        let found = tree.pod("5f6c");
        assert_eq!(
            found.as_deref(),
            Some("kubepods.slice/kubepods-pod5f6c.slice")
        );
    }

    #[test]
    fn a_missing_mount_has_no_pods() {
        let nowhere = Kubepods::below(&[PathBuf::from("/nowhere")]).unwrap();
        assert_eq!(nowhere, Kubepods::default());
        assert_eq!(nowhere.pod(UID).unwrap(), None);
    }

    #[test]
    fn an_unreadable_directory_is_an_error_and_not_a_missing_pod() {
        // Stands for any reason that makes a directory unreadable, also for root.
        let tree = Tree::of(&["kubepods/burstable"]);
        let file = tree.0.join("file");
        fs::write(&file, "").unwrap();
        assert!(Kubepods::below(std::slice::from_ref(&file)).is_err());
        fs::write(tree.0.join("kubepods/besteffort"), "").unwrap();
        let kubepods = Kubepods::below(std::slice::from_ref(&tree.0)).unwrap();
        assert!(kubepods.pod(UID).is_err());
    }

    #[test]
    fn a_uid_with_a_slash_or_dot_finds_nothing() {
        let tree = Tree::of(&[
            "kubepods/burstable",
            "kubepods/pod5f6c/inner",
            "system.slice",
            "kubepods.slice/kubepods-pod5f6c.slice",
        ]);
        for uid in [
            "5f6c/../../system.slice",
            "5f6c/inner",
            "5f6c.slice/../../../kubepods",
            "/etc",
            ".",
        ] {
            assert_eq!(tree.pod(uid), None, "{uid}");
        }
    }
}
