// SPDX-License-Identifier: MIT OR Apache-2.0
//! An image in an archive, as the OCI image specification has it: one layer, of this very binary and what it is
//! linked to.

use std::{
    fs, iter,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::{command, envoy::Envoy, probe::MARK};

/// Where the binary is in a container.
pub(super) const KIT: &str = "/kit";

/// Builds it in this folder; tells where the archive is.
pub(super) fn build(folder: &Path, name: &str) -> Result<PathBuf> {
    let (root, layout) = (folder.join("image"), folder.join("layout"));
    let own = std::env::current_exe().context("finding our own binary")?;
    copy(&own, &root.join(KIT.trim_start_matches('/')))?;
    // What else runs in a container is bound into it.
    let programs = iter::once(own).chain(Envoy::binary().ok());
    for library in programs
        .map(|program| libraries(&program))
        .collect::<Result<Vec<_>>>()?
        .concat()
    {
        copy(&library, &root.join(library.strip_prefix("/")?))?;
    }
    let blobs = Blobs(layout.join("blobs/sha256"));
    fs::create_dir_all(&blobs.0)?;
    let layer = blobs.0.join("layer");
    pack(&root, &layer)?;
    let layer = blobs.name(&layer, "layer.v1.tar")?;
    let config = blobs.write(
        &json!({
            "architecture": architecture(),
            "os": "linux",
            "config": { "Entrypoint": [KIT, MARK, "pause"] },
            "rootfs": { "type": "layers", "diff_ids": [layer.get("digest")] },
        }),
        "config.v1+json",
    )?;
    let manifest = json!({ "schemaVersion": 2, "config": config, "layers": [layer] });
    let mut entry = blobs.write(&manifest, "manifest.v1+json")?;
    if let Some(entry) = entry.as_object_mut() {
        entry.insert(
            "annotations".to_owned(),
            json!({ "io.containerd.image.name": name }),
        );
    }
    let index = json!({ "schemaVersion": 2, "manifests": [entry] });
    fs::write(layout.join("index.json"), index.to_string())?;
    fs::write(
        layout.join("oci-layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#,
    )?;
    let archive = folder.join("image.tar");
    pack(&layout, &archive)?;
    Ok(archive)
}

/// What a program is linked to, the loader included.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let linked = command::output("ldd", &[&program.to_string_lossy()], "")?;
    let paths = linked
        .split_ascii_whitespace()
        .filter(|word| word.starts_with('/'));
    Ok(paths.map(PathBuf::from).collect())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let shown = || format!("copying {} to {}", from.display(), to.display());
    to.parent()
        .map_or(Ok(()), fs::create_dir_all)
        .with_context(shown)?;
    fs::copy(from, to).map(drop).with_context(shown)
}

fn pack(folder: &Path, archive: &Path) -> Result<()> {
    let [folder, archive] = [folder, archive].map(|path| path.display().to_string());
    command::output(
        "tar",
        &["--create", "--file", &archive, "--directory", &folder, "."],
        "",
    )
    .map(drop)
}

/// The folder of files that are named by what is in them.
struct Blobs(PathBuf);

impl Blobs {
    /// Writes one, and describes it.
    fn write(&self, content: &Value, kind: &str) -> Result<Value> {
        let unnamed = self.0.join("unnamed");
        fs::write(&unnamed, content.to_string())?;
        self.name(&unnamed, kind)
    }

    /// Gives one its name, and describes it.
    fn name(&self, file: &Path, kind: &str) -> Result<Value> {
        let sum = command::output("sha256sum", &[&file.to_string_lossy()], "")?;
        let digest = sum.split(' ').next().unwrap_or_default();
        let size = fs::metadata(file)?.len();
        fs::rename(file, self.0.join(digest))?;
        Ok(json!({
            "mediaType": format!("application/vnd.oci.image.{kind}"),
            "digest": format!("sha256:{digest}"),
            "size": size,
        }))
    }
}

/// In the words of the specification, which are Go's.
const fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "amd64"
    }
}
