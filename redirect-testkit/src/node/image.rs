// SPDX-License-Identifier: MIT OR Apache-2.0
//! Archives of images by the OCI image specification, with one layer: binaries, and the libraries they are linked to.

use std::{
    fs, iter,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::{
    command::{self, HELPER},
    envoy::Envoy,
};

/// The path of the test's binary in a container.
pub(super) const KIT: &str = "/kit";

/// The contents of an image.
#[derive(Debug)]
pub(super) struct Image<'image> {
    pub(super) name: &'image str,
    pub(super) entrypoint: &'image [&'image str],
    /// Files of the machine, and their paths in a container.
    pub(super) files: &'image [(PathBuf, PathBuf)],
    /// Programs of the machine whose libraries are in the image.
    pub(super) linked: &'image [PathBuf],
}

/// Builds the image of every container of a pod: the test's own binary, and the libraries of Envoy.
pub(super) fn kit(folder: &Path, name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("find this binary")?;
    let linked = iter::once(own.clone()).chain(Envoy::binary().ok());
    Image {
        name,
        entrypoint: &[KIT, HELPER, "pause"],
        files: &[(own, PathBuf::from(KIT))],
        // Envoy itself is bind-mounted into its container.
        linked: &linked.collect::<Vec<_>>(),
    }
    .build(folder)
}

impl Image<'_> {
    /// Builds the image in this folder, which must be empty. Returns the path of the archive.
    pub(super) fn build(&self, folder: &Path) -> Result<PathBuf> {
        let (root, layout) = (folder.join("image"), folder.join("layout"));
        for (from, to) in self.files {
            copy(from, &root.join(to.strip_prefix("/")?))?;
        }
        for library in self
            .linked
            .iter()
            .map(|program| libraries(program))
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
                "config": { "Entrypoint": self.entrypoint },
                "rootfs": { "type": "layers", "diff_ids": [layer.get("digest")] },
            }),
            "config.v1+json",
        )?;
        let manifest = json!({ "schemaVersion": 2, "config": config, "layers": [layer] });
        let mut entry = blobs.write(&manifest, "manifest.v1+json")?;
        if let Some(entry) = entry.as_object_mut() {
            entry.insert(
                "annotations".to_owned(),
                json!({ "io.containerd.image.name": self.name }),
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
}

/// Lists the libraries that a program is linked to, the loader included.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let linked = command::output("ldd", &[&program.to_string_lossy()], "")?;
    let paths = linked
        .split_ascii_whitespace()
        .filter(|word| word.starts_with('/'));
    Ok(paths.map(PathBuf::from).collect())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let shown = || format!("copy {} to {}", from.display(), to.display());
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

/// The folder of blobs: files that are named after the digest of their contents.
struct Blobs(PathBuf);

impl Blobs {
    /// Writes a blob, and returns its descriptor.
    fn write(&self, content: &Value, kind: &str) -> Result<Value> {
        let unnamed = self.0.join("unnamed");
        fs::write(&unnamed, content.to_string())?;
        self.name(&unnamed, kind)
    }

    /// Renames a file to its digest, and returns its descriptor.
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

/// The architecture in the words of the specification, which are Go's.
const fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "amd64"
    }
}
