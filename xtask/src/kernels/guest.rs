//! The files of a machine that runs the kernel tests: the test program, the programs that it starts with their
//! libraries, and modules.

use std::{
    env, fs,
    io::ErrorKind,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::kernel::Kernel;
use crate::command;

/// The programs that tests start. A test is skipped, and says so, if its program is missing.
const PROGRAMS: [&str; 18] = [
    "bash",
    "haproxy",
    "ip",
    "ip6tables-legacy-restore",
    "ip6tables-legacy-save",
    "ip6tables-nft-restore",
    "ip6tables-nft-save",
    "iptables-legacy-restore",
    "iptables-legacy-save",
    "iptables-nft-restore",
    "iptables-nft-save",
    // The kernel starts it to load modules.
    "modprobe",
    "mount",
    "nsenter",
    "setpriv",
    "sysctl",
    "umount",
    "unshare",
];
/// The folders of modules that tests need: protocols, packet filters, virtual devices, and their libraries.
const MODULES: [&str; 7] = [
    "arch",
    "crypto",
    "drivers/net",
    "lib",
    "net/core",
    "net",
    "security",
];
/// The folder of iptables' extensions, below the folder of libraries.
const EXTENSIONS: &str = "xtables";
/// The path of the test program in the machine.
const TESTS: &str = "tests";

/// The first program of the machine. It runs the tests with the second serial port as their terminal, and reports their
/// status on the third.
const INIT: &str = r#"#!/busybox/busybox sh
/busybox/busybox mkdir -p /proc /sys /dev /tmp /run /var/lib /var/tmp
/busybox/busybox mount -t proc proc /proc
/busybox/busybox --install -s /busybox
export PATH=/usr/sbin:/usr/bin:/busybox HOME=/ REDIRECT_GUEST=1
mount -t devtmpfs dev /dev
ln -s /proc/self/fd /dev/fd
ln -s /proc/self/fd/0 /dev/stdin
mount -t sysfs sys /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
ip link set lo up
ulimit -n 65536
stty -F /dev/ttyS1 raw
{
    /tests programs
    status=$?
    while read -r arguments; do
        eval "/tests --color=never $arguments" </dev/null || status=$?
    done </arguments
} >/dev/ttyS1 2>&1
echo "exit $status" >/dev/ttyS2
poweroff -f
"#;

/// Makes the root folder of a machine, which runs the test program once with each of the lists of arguments.
pub(crate) fn make(root: &Path, kernel: &Kernel, tests: &Path, runs: &[Vec<String>]) -> Result<()> {
    match fs::remove_dir_all(root) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("remove {}", root.display()));
        }
        Ok(()) | Err(_) => {}
    }
    for folder in [
        "usr/bin",
        "usr/sbin",
        "usr/lib",
        "usr/lib64",
        "busybox",
        "etc",
    ] {
        create(&root.join(folder))?;
    }
    // Everything that the machine names by its old place is below `usr`.
    for folder in ["bin", "sbin", "lib", "lib64"] {
        link(&root.join(folder), Path::new("usr").join(folder).as_path())?;
    }
    let busybox = find("busybox").context("find busybox: it is not in PATH")?;
    copy(&busybox, &root.join("busybox/busybox"))?;
    link(&root.join("usr/bin/sh"), Path::new("/busybox/busybox"))?;
    for program in PROGRAMS {
        if let Some(path) = find(program) {
            add_program(root, program, &path)?;
        }
    }
    add_extensions(root)?;
    add_modules(root, kernel)?;
    // Debug information is the largest part of a program.
    let mut strip = Command::new("strip");
    command::output(strip.arg("-o").arg(root.join(TESTS)).arg(tests))?;
    let line = |arguments: &Vec<String>| {
        let words: Vec<_> = arguments.iter().map(|word| quoted(word)).collect();
        words.join(" ") + "\n"
    };
    let lines: String = runs.iter().map(line).collect();
    write(&root.join("arguments"), &lines)?;
    write(&root.join("init"), INIT)?;
    let init = root.join("init");
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("open {} to all", init.display()))
}

/// A word of a shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/bin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

/// Copies a program with its libraries. A link to a program of several names stays one.
fn add_program(root: &Path, name: &str, path: &Path) -> Result<()> {
    let file = fs::canonicalize(path).with_context(|| format!("find {}", path.display()))?;
    let copied = below(root, &file);
    if !copied.exists() {
        copy(&file, &copied)?;
        add_libraries(root, &file)?;
    }
    if file.file_name().is_some_and(|own| own != name) {
        let parent = if name == "modprobe" {
            "usr/sbin"
        } else {
            "usr/bin"
        };
        link(
            &root.join(parent).join(name),
            &Path::new("/").join(relative(&file)),
        )?;
    }
    Ok(())
}

/// Copies the libraries that the dynamic linker would load.
fn add_libraries(root: &Path, program: &Path) -> Result<()> {
    let listed = command::output(Command::new("ldd").arg(program)).unwrap_or_default();
    for library in libraries(&listed) {
        let copied = below(root, Path::new(library));
        if !copied.exists() {
            copy(Path::new(library), &copied)?;
        }
    }
    Ok(())
}

/// The paths in the output of ldd.
fn libraries(listed: &str) -> impl Iterator<Item = &str> {
    listed
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
}

/// The extensions of iptables, which its programs load by name.
fn add_extensions(root: &Path) -> Result<()> {
    let list = |folder: &Path| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    for folder in list(Path::new("/usr/lib")) {
        for extension in list(&folder.join(EXTENSIONS)) {
            copy(&extension, &below(root, &extension))?;
        }
    }
    Ok(())
}

/// Copies modules, with an index of their own.
fn add_modules(root: &Path, kernel: &Kernel) -> Result<()> {
    let target = root.join("usr/lib/modules").join(&kernel.release);
    for folder in MODULES {
        let from = kernel.modules().join("kernel").join(folder);
        if from.is_dir() {
            copy_folder(&from, &target.join("kernel").join(folder))?;
        }
    }
    for list in [
        "modules.builtin",
        "modules.builtin.modinfo",
        "modules.order",
    ] {
        let from = kernel.modules().join(list);
        if from.exists() {
            copy(&from, &target.join(list))?;
        }
    }
    let depmod = find("depmod").context("find depmod: it is not in PATH")?;
    let mut index = Command::new(depmod);
    command::output(index.arg("-b").arg(root).arg(&kernel.release)).map(drop)
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    let list = || format!("list {}", from.display());
    for entry in fs::read_dir(from).with_context(list)? {
        let path = entry.with_context(list)?.path();
        let Some(name) = path.file_name() else {
            continue;
        };
        if path.is_dir() {
            copy_folder(&path, &to.join(name))?;
        } else {
            copy(&path, &to.join(name))?;
        }
    }
    Ok(())
}

/// A path of this system without its beginning: everything lies below `usr`.
fn relative(path: &Path) -> PathBuf {
    let path = path.strip_prefix("/").unwrap_or(path);
    if path.starts_with("usr") {
        path.to_owned()
    } else {
        Path::new("usr").join(path)
    }
}

fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(relative(path))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(parent) = to.parent() {
        create(parent)?;
    }
    fs::copy(from, to)
        .with_context(|| format!("copy {} to {}", from.display(), to.display()))
        .map(drop)
}

fn create(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))
}

fn link(path: &Path, target: &Path) -> Result<()> {
    symlink(target, path).with_context(|| format!("link {}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_the_dynamic_linker_are_read_from_ldd() {
        let listed = "\tlinux-vdso.so.1 (0x1)\n\tlibc.so.6 => /lib/x/libc.so.6 (0x2)\n\
                      \t/lib64/ld-linux-x86-64.so.2 (0x3)\n";
        let found: Vec<_> = libraries(listed).collect();
        assert_eq!(found, ["/lib/x/libc.so.6", "/lib64/ld-linux-x86-64.so.2"]);
    }

    #[test]
    fn an_old_place_is_below_usr() {
        assert_eq!(relative(Path::new("/lib/x")), Path::new("usr/lib/x"));
        assert_eq!(relative(Path::new("/usr/bin/x")), Path::new("usr/bin/x"));
    }

    #[test]
    fn a_quoted_word_stays_one_word() {
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
