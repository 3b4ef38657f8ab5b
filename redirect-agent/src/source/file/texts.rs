//! The texts of a folder's files, read again only where a file may be another one.

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

/// The texts of files by name; or why one cannot be read.
pub(super) type Texts = BTreeMap<String, Result<Arc<str>, String>>;

/// Larger than any description of a workload with 10,000 ranges.
const MAX_SIZE: u64 = 1 << 20;
/// Much longer than a file's times are apart if it is written twice: the kernel's clock for them
/// ticks every 10 ms at the slowest.
const STABLE_TIME: Duration = Duration::from_secs(1);

/// The files of a folder, as they were read.
#[derive(Debug, Default)]
pub(super) struct FileReader {
    cache: BTreeMap<String, CachedText>,
}

/// A file that was read.
#[derive(Debug)]
struct CachedText {
    stamp: Stamp,
    /// When it was read with this stamp for the first time, and for the last.
    first_read: Instant,
    last_read: Instant,
    text: Arc<str>,
}

/// What is another when a file is: device, inode, size, and the times of its last changes.
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
    /// The texts of all files of a folder that describe something.
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

    /// A file's text; `None` if it is not a file, or not there any more.
    fn text(&mut self, name: &str, path: &Path, now: Instant) -> Result<Option<Arc<str>>, String> {
        let read = |error: std::io::Error| format!("read it: {error}");
        let metadata = match fs::metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            found => found.map_err(read)?,
        };
        // Opening anything else might wait for somebody at its other end.
        if !metadata.is_file() {
            return Ok(None);
        }
        if metadata.len() > MAX_SIZE {
            return Err(format!("it has more than {MAX_SIZE} bytes"));
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

/// Not what editors and file managers leave beside it.
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
            // Of the same length, and as fast as it can be.
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
