//! The texts of a folder's files, with a cache of unchanged ones.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::{self, File, Metadata},
    io::{ErrorKind, Read as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

/// Texts of files by name, or the error of reading them.
pub(super) type Texts = BTreeMap<String, Result<Arc<str>, String>>;

/// Size limit: larger than any description of a workload with 10,000 ranges.
const MAX_SIZE: u64 = 1 << 20;
/// Age at which a timestamp is conclusive. Two writes of a file may have the same one: the kernel's clock for
/// timestamps ticks every 10 ms at the slowest.
const STABLE_TIME: Duration = Duration::from_secs(1);

/// Reads the files of a folder, and caches their texts.
#[derive(Debug, Default)]
pub(super) struct FileReader {
    cache: BTreeMap<String, CachedText>,
}

/// A cached text.
#[derive(Debug)]
struct CachedText {
    stamp: Stamp,
    /// Times of the first and of the last read with this stamp.
    first_read: Instant,
    last_read: Instant,
    text: Arc<str>,
}

/// Stamp of a file: device, inode, size, and times of modification and change. A changed file has another
/// one.
type Stamp = (u64, u64, u64, [i64; 4]);

fn stamp(file: &Metadata) -> Stamp {
    let times = [
        file.mtime(),
        file.mtime_nsec(),
        file.ctime(),
        file.ctime_nsec(),
    ];
    (file.dev(), file.ino(), file.len(), times)
}

impl FileReader {
    /// Texts of all workload files of a folder.
    pub(super) fn read(&mut self, folder: &Path, now: Instant) -> Result<Texts, String> {
        let list = |error: std::io::Error| format!("list \"{}\": {error}", folder.display());
        let mut texts = Texts::new();
        for entry in fs::read_dir(folder).map_err(list)? {
            let entry = entry.map_err(list)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if !describes_workload(&name) {
                continue;
            }
            match self.text(&name, &entry.path(), now) {
                Ok(Some(text)) => drop(texts.insert(name, Ok(text))),
                Ok(None) => {}
                Err(reason) => drop(texts.insert(name, Err(reason))),
            }
        }
        self.cache.retain(|name, _| texts.contains_key(name));
        Ok(texts)
    }

    /// Text of a file; `None` if the file has gone, or is not a regular one.
    fn text(&mut self, name: &str, path: &Path, now: Instant) -> Result<Option<Arc<str>>, String> {
        let read = |error: std::io::Error| format!("read the file: {error}");
        let metadata = match fs::metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            found => found.map_err(read)?,
        };
        // Opening another kind, such as a pipe, might block.
        if !metadata.is_file() {
            return Ok(None);
        }
        if metadata.len() > MAX_SIZE {
            return Err(format!("read the file: it has more than {MAX_SIZE} bytes"));
        }
        let stamp = stamp(&metadata);
        let same = self.cache.get(name).filter(|cached| cached.stamp == stamp);
        if let Some(cached) = same
            && cached.last_read.duration_since(cached.first_read) >= STABLE_TIME
        {
            return Ok(Some(Arc::clone(&cached.text)));
        }
        let file = match File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            file => file.map_err(read)?,
        };
        let mut text = String::new();
        file.take(MAX_SIZE)
            .read_to_string(&mut text)
            .map_err(read)?;
        let first_read = same.map_or(now, |cached| cached.first_read);
        let unchanged = same.filter(|cached| *cached.text == *text);
        let text = unchanged.map_or_else(|| text.into(), |cached| Arc::clone(&cached.text));
        let cached = CachedText {
            stamp,
            first_read,
            last_read: now,
            text: Arc::clone(&text),
        };
        self.cache.insert(name.to_owned(), cached);
        Ok(Some(text))
    }
}

/// Whether the name is that of a workload file, and not of an editor's or a file manager's leftover.
fn describes_workload(name: &str) -> bool {
    let kind = Path::new(name).extension().and_then(OsStr::to_str);
    !name.starts_with('.') && matches!(kind, Some("yaml" | "yml" | "json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_again_until_its_timestamps_are_conclusive() {
        let folder = std::env::temp_dir().join(format!("redirect-texts-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("shop.yaml");
        let (mut files, mut now) = (FileReader::default(), Instant::now());
        let text = |files: &mut FileReader, now| {
            let texts = files.read(&folder, now).unwrap();
            texts["shop.yaml"].as_ref().unwrap().to_string()
        };
        let was_read = |files: &FileReader, now| files.cache["shop.yaml"].last_read == now;
        for word in ["one", "two", "six"] {
            // The texts have the same length, and are written in quick succession.
            fs::write(&path, word).unwrap();
            assert_eq!(text(&mut files, now), word);
            now += STABLE_TIME;
            assert_eq!(text(&mut files, now), word);
            assert!(was_read(&files, now));
            now += STABLE_TIME;
            assert_eq!(text(&mut files, now), word);
            assert!(!was_read(&files, now), "nothing has changed");
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(files.read(&folder, now), Ok(Texts::new()));
        assert!(files.cache.is_empty());
        fs::remove_dir(&folder).unwrap();
    }
}
