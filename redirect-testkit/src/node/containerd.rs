// SPDX-License-Identifier: MIT OR Apache-2.0
//! The container runtime of a node, and its configuration.

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

/// The image of every container, the pause container included. It is there, and in no registry.
pub const IMAGE: &str = "redirect.test/kit:1";

/// Where Debian has the CNI plugins.
pub(super) const PLUGINS: &str = "/usr/lib/cni";
/// In the node's folder.
pub(super) const SOCKET: &str = "containerd.sock";

/// It takes a twentieth of a second on a quiet machine.
const STARTING: Duration = Duration::from_mins(1);

/// A script in place of runc. It takes out the processor shares that containerd asks for with each sandbox, for
/// which runc fails in a hierarchy without that controller: that of a machine that gave it to cgroup v1.
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
    pub(super) fn start(env: &NodeEnv) -> Result<Self> {
        let folder = env.folder();
        configure(folder).context("configuring containerd")?;
        let (socket, log) = (folder.join(SOCKET), folder.join("containerd.log"));
        let out = File::create(&log).with_context(|| format!("making {}", log.display()))?;
        let child = env
            .command("containerd")
            .arg("--config")
            .arg(folder.join("config.toml"))
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .context("starting containerd")?;
        let archive = image::kit(folder, IMAGE).context("making an image")?;
        let mut connected = None;
        wait_until(STARTING, || {
            connected = Cri::connect(&socket)
                .ok()
                .filter(|cri| cri.is_ready().unwrap_or(false));
            connected.is_some()
        });
        let Some(cri) = connected else {
            let said = fs::read_to_string(&log).unwrap_or_default();
            bail!("containerd does not become ready:\n{said}");
        };
        let containerd = Self { child, socket, cri };
        containerd.import(&archive)?;
        Ok(containerd)
    }

    /// Takes in the image of an archive.
    pub(super) fn import(&self, archive: &Path) -> Result<()> {
        let [socket, archive] = [&self.socket, archive].map(|path| path.display().to_string());
        let import = ["-a", &socket, "-n", "k8s.io", "images", "import", &archive];
        command::output("ctr", &import, "").map(drop)
    }

    pub(super) const fn cri(&self) -> &Cri {
        &self.cri
    }

    pub(super) fn wait_for_plugin(&self, plugin: &str, is_there: bool) -> Result<()> {
        // As containerd shows its configuration: JSON, in which the plugin's own is JSON again.
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
        bail!("containerd does not come to see its configuration: {shown}")
    }

    pub(super) fn sandboxes(&self) -> Result<Vec<String>> {
        self.cri.sandboxes()
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // Both fail only if it has ended. Shims and containers end with the cgroup.
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

/// `restrict_oom_score_adj`: where root lacks `CAP_SYS_RESOURCE`, a sandbox can't have its usual score.
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
