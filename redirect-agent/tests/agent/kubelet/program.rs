//! A real kubelet on a node in a box.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use redirect_testkit::node::Node;

use crate::{agent_process::DYING, apiserver::control_plane::program};

/// What it is called in the cluster.
pub(super) const NODE: &str = "this";

/// What only the kubelet finds, before it becomes one. It sets these parameters of the kernel, which are the
/// machine's own, unless they have the values already. And it looks for the cgroups of pods that are gone where
/// each controller is mounted: if the machine gave them all to cgroup v1 it would leave those, so that there is
/// one of which it wants nothing.
const MOUNTS: &str = r#"show() {
    file=$0/$(basename "$1")
    echo "$2" >"$file"
    mount --bind "$file" "$1"
}
show /proc/sys/vm/overcommit_memory 1
show /proc/sys/kernel/panic 10
show /proc/sys/kernel/panic_on_oops 1
controllers=/sys/fs/cgroup/cgroup.controllers
[ -n "$(cat $controllers)" ] || show $controllers misc
exec "$@""#;

/// Below `/sys/fs/cgroup` there is only what the node has. Where the machine gave processor and memory to cgroup
/// v1, it can set no shares in its pods' cgroups: it says so, and goes on; runc would not.
const OPTIONS: [&str; 12] = [
    "--container-runtime=remote",
    "--cgroup-driver=cgroupfs",
    "--cpu-cfs-quota=false",
    "--enforce-node-allocatable=",
    "--eviction-hard=",
    "--fail-swap-on=false",
    // It would look for them in a folder of the machine's.
    "--feature-gates=DevicePlugins=false",
    "--address=127.0.0.1",
    "--healthz-port=0",
    "--image-gc-high-threshold=100",
    "--minimum-container-ttl-duration=0s",
    "--maximum-dead-containers-per-container=0",
];

/// A kubelet that runs; killed when dropped. Its containers are the node's.
pub(super) struct Kubelet {
    child: Child,
    folder: PathBuf,
}

impl Kubelet {
    pub(super) fn start(node: &Node, kubeconfig: &str) -> Result<Self> {
        let folder = node.folder().join("kubelet");
        for made in ["log", "manifests", "root"] {
            fs::create_dir_all(folder.join(made))?;
        }
        let mount = |from: &str, to: &Path| {
            let mut mount = node.command("mount");
            mount
                .args(["--bind", "--make-shared"])
                .arg(folder.join(from))
                .arg(to);
            ensure!(
                mount.status()?.success(),
                "mount a folder at {}",
                to.display()
            );
            Ok(())
        };
        // It logs there, wherever its other files are, and so does the container runtime.
        mount("log", Path::new("/var/log"))?;
        // What it mounts there, such as secrets, is to be seen by the container runtime.
        mount("root", &folder.join("root"))?;
        fs::write(folder.join("kubeconfig"), kubeconfig)?;
        let own = |option: &str, name: &str| format!("--{option}={}", folder.join(name).display());
        let log = File::create(folder.join("kubelet.log"))?;
        let child = node
            .command("unshare")
            .args(["--mount", "--propagation=unchanged", "sh", "-ec", MOUNTS])
            .arg(&folder)
            .arg("setpriv")
            .args(DYING)
            .arg(program("kubelet")?)
            .args(OPTIONS)
            .args([
                own("kubeconfig", "kubeconfig"),
                own("root-dir", "root"),
                own("cert-dir", "certificates"),
                own("pod-manifest-path", "manifests"),
                own("volume-plugin-dir", "plugins"),
                format!(
                    "--container-runtime-endpoint=unix://{}",
                    node.runtime_socket().display()
                ),
                format!("--hostname-override={NODE}"),
                format!("--node-ip={}", Node::V4),
            ])
            // It asks whether it is in that cloud, for seconds.
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("start a kubelet")?;
        Ok(Self { child, folder })
    }

    /// Has a file with a pod in it, or no longer.
    pub(super) fn give(&self, name: &str, pod: Option<&str>) -> Result<()> {
        let file = self.folder.join("manifests").join(name);
        match pod {
            None => fs::remove_file(&file)?,
            Some(pod) => {
                // It reads no hidden file.
                let half = self.folder.join("manifests").join(format!(".{name}"));
                fs::write(&half, pod)?;
                fs::rename(&half, &file)?;
            }
        }
        Ok(())
    }

    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.folder.join("kubelet.log")).unwrap_or_default()
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        // Both fail only if it has ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
