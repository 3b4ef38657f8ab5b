// SPDX-License-Identifier: MIT OR Apache-2.0
//! containerd, the container runtime of a node, and its configuration.

use std::{
    fs::{self, File},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use super::{
    cri::Cri,
    env::{NodeEnv, PODS},
    image,
};
use crate::{command, wait::wait_until};

/// The image of every container, the pause container included. It is imported, and comes from no registry.
pub const IMAGE: &str = "redirect.test/kit:1";

/// The folder of Debian's CNI plugins.
pub(super) const PLUGINS: &str = "/usr/lib/cni";
/// The name of the runtime's socket in the node's folder.
pub(super) const SOCKET: &str = "containerd.sock";

/// The time that containerd may take to start: a twentieth of a second on a quiet machine.
const STARTING: Duration = Duration::from_mins(1);

/// A wrapper script of runc that removes the processor shares which containerd requests for each sandbox. Without
/// the cpu controller, runc fails on them: cgroup v2 lacks the controller if the machine gave it to cgroup v1.
const RUNC: &str = r#"#!/bin/sh
for argument; do
    if [ "$previous" = --bundle ]; then
        sed -i 's/,"cpu":{"shares":[0-9]*}//; s/"cpu":{"shares":[0-9]*},//' "$argument/config.json"
    fi
    previous=$argument
done
exec runc "$@"
"#;

#[derive(Debug)]
pub(super) struct Containerd {
    child: Child,
    socket: PathBuf,
    cri: Cri,
}

impl Containerd {
    /// Starts containerd in the node's namespaces, and waits until it is ready.
    pub(super) fn start(env: &NodeEnv) -> Result<Self> {
        let folder = env.folder();
        configure(folder).context("configure containerd")?;
        let (socket, log) = (folder.join(SOCKET), folder.join("containerd.log"));
        let out = File::create(&log).with_context(|| format!("make {}", log.display()))?;
        let child = env
            .command("containerd")
            .arg("--config")
            .arg(folder.join("config.toml"))
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .context("start containerd")?;
        let archive = image::kit(folder, IMAGE).context("make the kit's image")?;
        let mut connected = None;
        wait_until(STARTING, || {
            connected = Cri::connect(&socket)
                .ok()
                .filter(|cri| cri.is_ready().unwrap_or(false));
            connected.is_some()
        });
        let Some(cri) = connected else {
            let output = fs::read_to_string(&log).unwrap_or_default();
            bail!("containerd does not become ready:\n{output}");
        };
        let containerd = Self { child, socket, cri };
        containerd.import(&archive)?;
        Ok(containerd)
    }

    /// Imports the image in an archive.
    pub(super) fn import(&self, archive: &Path) -> Result<()> {
        let [socket, archive] = [&self.socket, archive].map(|path| path.display().to_string());
        let import = ["-a", &socket, "-n", "k8s.io", "images", "import", &archive];
        command::output("ctr", &import, "").map(drop)
    }

    pub(super) const fn cri(&self) -> &Cri {
        &self.cri
    }

    /// Waits until containerd's configuration has a plugin, or no longer has it.
    pub(super) fn wait_for_plugin(&self, plugin: &str, is_there: bool) -> Result<()> {
        // containerd shows its configuration as JSON, in which the plugin's own is a string of JSON again.
        let wanted = format!("\"type\":\"{plugin}\"");
        let mut shown = String::new();
        let seen = wait_until(STARTING, || {
            shown = self
                .cri
                .networks()
                .unwrap_or_else(|error| format!("{error:#}"));
            shown.replace('\\', "").replace(": ", ":").contains(&wanted) == is_there
        });
        if seen {
            return Ok(());
        }
        bail!("wait for the plugin {plugin}: containerd still has this configuration: {shown}")
    }

    pub(super) fn sandboxes(&self) -> Result<Vec<String>> {
        self.cri.sandboxes()
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // Both fail only if containerd has ended. Shims and containers end with the cgroup.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn configure(folder: &Path) -> Result<()> {
    let (plugins, networks) = (folder.join("cni/bin"), folder.join("cni/net.d"));
    for made in [&plugins, &networks] {
        fs::create_dir_all(made)?;
    }
    for plugin in ["ptp", "host-local", "loopback"] {
        symlink(Path::new(PLUGINS).join(plugin), plugins.join(plugin))?;
    }
    let runc = folder.join("runc.sh");
    fs::write(&runc, RUNC)?;
    fs::set_permissions(&runc, fs::Permissions::from_mode(0o755))?;
    fs::write(
        folder.join("config.toml"),
        config(&folder.display().to_string()),
    )?;
    let network = json!({
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [{
            "type": "ptp",
            "ipam": {
                "type": "host-local",
                "dataDir": folder.join("addresses"),
                "ranges": [[{ "subnet": PODS }]],
                "routes": [{ "dst": "0.0.0.0/0" }],
            },
        }],
    });
    fs::write(networks.join("10-pods.conflist"), network.to_string())?;
    Ok(())
}

/// The configuration file. It has `restrict_oom_score_adj`, because a sandbox cannot have its usual score where root
/// lacks `CAP_SYS_RESOURCE`.
fn config(folder: &str) -> String {
    format!(
        r#"version = 2
root = "{folder}/root"
state = "{folder}/state"
[grpc]
  address = "{folder}/{SOCKET}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{folder}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{IMAGE}"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      BinaryName = "{folder}/runc.sh"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{folder}/cni/bin"
    conf_dir = "{folder}/cni/net.d"
"#
    )
}
