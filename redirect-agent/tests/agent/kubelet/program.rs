//! A real kubelet on a nested node.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use redirect_testkit::node::Node;

use crate::{agent_process::DYING, apiserver::control_plane::program};

/// Name of the node in the cluster.
pub(super) const NODE: &str = "this";

/// Mounts that only the kubelet sees, made before it starts. A kubelet sets these kernel parameters, which
/// are the machine's own, unless they have the values already. It also looks for the cgroups of dead pods at
/// the mount of each controller: if the machine gave all controllers to cgroup v1, it would leave those
/// cgroups, so one controller is shown that it does not use.
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

/// Options of the kubelet. `/sys/fs/cgroup` has the node's cgroups only. If the machine gave processor and
/// memory to cgroup v1, the kubelet cannot set shares in its pods' cgroups, logs that, and continues; runc
/// would not.
const OPTIONS: [&str; 12] = [
    "--container-runtime=remote",
    "--cgroup-driver=cgroupfs",
    "--cpu-cfs-quota=false",
    "--enforce-node-allocatable=",
    "--eviction-hard=",
    "--fail-swap-on=false",
    // The kubelet would look for them in a directory of the machine's.
    "--feature-gates=DevicePlugins=false",
    "--address=127.0.0.1",
    "--healthz-port=0",
    "--image-gc-high-threshold=100",
    "--minimum-container-ttl-duration=0s",
    "--maximum-dead-containers-per-container=0",
];

/// A running kubelet; killed when dropped. Its containers are the node's.
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
        // The kubelet and the container runtime log there, wherever their other files are.
        mount("log", Path::new("/var/log"))?;
        // The container runtime has to see mounts of the kubelet, such as secrets.
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
            // The kubelet would probe for that cloud for seconds.
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("start a kubelet")?;
        Ok(Self { child, folder })
    }

    /// Writes or removes the file of a static pod.
    pub(super) fn give(&self, name: &str, pod: Option<&str>) -> Result<()> {
        let file = self.folder.join("manifests").join(name);
        match pod {
            None => fs::remove_file(&file)?,
            Some(pod) => {
                // The kubelet reads no hidden files.
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
        // Both fail only if the process has ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
