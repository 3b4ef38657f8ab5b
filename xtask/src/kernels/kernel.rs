//! A kernel of Debian in the cache: its image and its modules, unpacked and not installed.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use super::Series;
use crate::{cache, command, setup::AptIndex};

/// The package that depends on the suite's present kernel. The cloud flavour is a third of the plain one, and has BTF,
/// `CGROUP_BPF`, and veth and netfilter as modules.
const META: &str = "linux-image-cloud-amd64";
/// The beginnings of the names of packages that a kernel consists of. Since 7.x, the image has packages of its own
/// for the parts.
const PARTS: [&str; 4] = [
    "linux-image-",
    "linux-base-",
    "linux-binary-",
    "linux-modules-",
];

/// An unpacked kernel.
#[derive(Debug)]
pub(crate) struct Kernel {
    folder: PathBuf,
    /// The release, as `uname -r` prints it.
    pub(crate) release: String,
}

impl Kernel {
    /// The kernel of a series, which is fetched if the cache does not have it.
    pub(crate) fn of(series: Series) -> Result<Self> {
        let _lock = cache::lock("kernels")?;
        let folder = Path::new(cache::SHARED).join("kernels").join(series.name());
        if !folder.exists() {
            let build = folder.with_file_name(format!("{}.part", series.name()));
            remove(&build)?;
            let fetched = fetch(series, &build).and_then(|()| {
                fs::rename(build.join("root"), &folder).context("move the kernel to its place")
            });
            remove(&build)?;
            fetched.with_context(|| format!("fetch the kernel {}", series.name()))?;
        }
        let release = release(&folder)?;
        Ok(Self { folder, release })
    }

    /// The file that is booted.
    pub(crate) fn image(&self) -> Result<PathBuf> {
        let name = format!("vmlinuz-{}", self.release);
        // Since 7.x, the image lies beside the modules.
        let places = [
            self.folder.join("boot").join(name),
            self.modules().join("vmlinuz"),
        ];
        let found = places.into_iter().find(|path| path.is_file());
        found.with_context(|| format!("find the image of kernel {}", self.release))
    }

    /// The folder of the modules, with the folder `kernel`.
    pub(crate) fn modules(&self) -> PathBuf {
        modules_of(&self.folder).join(&self.release)
    }
}

/// The folder with one folder of modules; merged systems have it below `usr`.
fn modules_of(folder: &Path) -> PathBuf {
    let merged = folder.join("usr/lib/modules");
    if merged.is_dir() {
        merged
    } else {
        folder.join("lib/modules")
    }
}

fn release(folder: &Path) -> Result<String> {
    let modules = modules_of(folder);
    let list = || format!("list {}", modules.display());
    let entry = fs::read_dir(&modules).with_context(list)?.next();
    let entry = entry.with_context(list)?.with_context(list)?;
    Ok(entry.file_name().to_string_lossy().into_owned())
}

/// Downloads and unpacks the suite's kernel into `root` below the folder.
fn fetch(series: Series, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    let index = AptIndex::make(folder, &[("deb", series.suite())])?;
    let packages = packages(&index)?;
    ensure!(
        !packages.is_empty(),
        "find the package of the kernel: {META} of {} depends on none",
        series.suite()
    );
    command::install(index.apt("apt-get").arg("download").args(&packages))?;
    let list = || format!("list {}", folder.display());
    for entry in fs::read_dir(folder).with_context(list)? {
        let path = entry.with_context(list)?.path();
        if path.extension().is_some_and(|kind| kind == "deb") {
            let mut unpack = Command::new("dpkg-deb");
            unpack.arg("--extract").arg(&path).arg(folder.join("root"));
            command::install(&mut unpack)?;
        }
    }
    Ok(())
}

/// The packages that the kernel consists of.
fn packages(index: &AptIndex) -> Result<BTreeSet<String>> {
    let (mut found, mut next) = (BTreeSet::new(), vec![META.to_owned()]);
    while let Some(package) = next.pop() {
        let mut ask = index.apt("apt-cache");
        let text = command::output(ask.args(["depends", "--important", &package]))?;
        for part in parts(&text) {
            if found.insert(part.to_owned()) {
                next.push(part.to_owned());
            }
        }
    }
    Ok(found)
}

/// The packages in a list of dependencies that are parts of a kernel: their names have its version.
fn parts(depends: &str) -> impl Iterator<Item = &str> {
    depends
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .filter(|name| {
            let version = PARTS.iter().find_map(|part| name.strip_prefix(part));
            version.is_some_and(|version| version.starts_with(|c: char| c.is_ascii_digit()))
        })
}

fn remove(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_kernel_have_its_version_in_their_names() {
        let depends = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-57-cloud-amd64\n  \
                       Depends: kmod\n  Depends: linux-base\n  Depends: linux-modules-7.2.13\n";
        let parts: Vec<_> = parts(depends).collect();
        assert_eq!(
            parts,
            ["linux-image-6.1.0-57-cloud-amd64", "linux-modules-7.2.13"]
        );
    }
}
