//! The archive of a folder in the form that a kernel unpacks at its start: cpio with "new" ASCII headers
//! (Documentation/driver-api/early-userspace/buffer-format.rst).

use std::{
    fs,
    io::{self, BufWriter, Write},
    os::unix::{ffi::OsStrExt as _, fs::PermissionsExt as _},
    path::Path,
};

use anyhow::{Context as _, Result};

/// The modes of file types.
const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
/// The name of the entry that ends an archive.
const END: &[u8] = b"TRAILER!!!";

/// Writes the archive of everything below a folder. All of it belongs to root.
pub(crate) fn write(folder: &Path, archive: &Path) -> Result<()> {
    let write = || format!("write {}", archive.display());
    let file = fs::File::create(archive).with_context(write)?;
    let mut writer = Writer {
        out: BufWriter::new(file),
        inode: 0,
    };
    writer.folder(folder, folder)?;
    writer.entry(END, 0, &[]).with_context(write)?;
    writer.out.flush().with_context(write)
}

struct Writer<W> {
    out: W,
    inode: u32,
}

impl<W: Write> Writer<W> {
    fn folder(&mut self, root: &Path, folder: &Path) -> Result<()> {
        let add = |path: &Path| format!("archive {}", path.display());
        let mut paths = Vec::new();
        for entry in fs::read_dir(folder).with_context(|| add(folder))? {
            paths.push(entry.with_context(|| add(folder))?.path());
        }
        paths.sort();
        for path in paths {
            let metadata = fs::symlink_metadata(&path).with_context(|| add(&path))?;
            let name = path.strip_prefix(root).with_context(|| add(&path))?;
            let name = name.as_os_str().as_bytes();
            let mode = metadata.permissions().mode() & 0o7777;
            if metadata.is_dir() {
                self.entry(name, FOLDER | mode, &[])
                    .with_context(|| add(&path))?;
                self.folder(root, &path)?;
            } else if metadata.is_symlink() {
                let target = fs::read_link(&path).with_context(|| add(&path))?;
                self.entry(name, LINK | 0o777, target.as_os_str().as_bytes())
                    .with_context(|| add(&path))?;
            } else {
                let data = fs::read(&path).with_context(|| add(&path))?;
                self.entry(name, FILE | mode, &data)
                    .with_context(|| add(&path))?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, name: &[u8], mode: u32, data: &[u8]) -> io::Result<()> {
        self.inode += 1;
        let size = u32::try_from(data.len()).map_err(io::Error::other)?;
        // The length includes a zero byte.
        let name_size = u32::try_from(name.len() + 1).map_err(io::Error::other)?;
        let links = 1;
        let fields = [
            self.inode, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name_size, 0,
        ];
        self.out.write_all(b"070701")?;
        for field in fields {
            write!(self.out, "{field:08X}")?;
        }
        self.out.write_all(name)?;
        // The header has 110 bytes; name and data each end at a multiple of four.
        let zeros = [0; 4];
        let padding = |len: usize| zeros.iter().take((4 - len % 4) % 4);
        self.out.write_all(&zeros[..1])?;
        let after_name: Vec<u8> = padding(110 + name.len() + 1).copied().collect();
        self.out.write_all(&after_name)?;
        self.out.write_all(data)?;
        let after_data: Vec<u8> = padding(data.len()).copied().collect();
        self.out.write_all(&after_data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_ends_at_a_multiple_of_four() {
        let mut writer = Writer {
            out: Vec::new(),
            inode: 0,
        };
        writer.entry(b"a", FILE | 0o644, b"hello").unwrap();
        assert_eq!(writer.out.len(), 112 + 8);
        let text = String::from_utf8(writer.out.clone()).unwrap();
        assert!(text.starts_with("07070100000001000081A4"), "{text}");
        assert!(text.ends_with("a\0hello\0\0\0"), "{text}");
    }
}
