//! The lookup of users' and groups' names.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A lookup of ids by name, either of users or of groups. Closures implement it.
pub trait Names {
    /// The id of the user or group with this name, if there is one.
    fn id_of(&self, name: &str) -> Option<u32>;
}

impl<F: Fn(&str) -> Option<u32>> Names for F {
    fn id_of(&self, name: &str) -> Option<u32> {
        self(name)
    }
}

/// A file in the format of `/etc/passwd` or `/etc/group`, read at each lookup. A file that cannot
/// be read has no names.
#[derive(Clone, Debug)]
pub struct NameFile {
    path: PathBuf,
}

impl NameFile {
    /// Creates the lookup in the file at a path.
    #[must_use]
    pub fn at(path: impl AsRef<Path>) -> Self {
        Self {
            path: path.as_ref().to_owned(),
        }
    }

    /// The lookup of the system's users: `/etc/passwd`.
    #[must_use]
    pub fn users() -> Self {
        Self::at("/etc/passwd")
    }

    /// The lookup of the system's groups: `/etc/group`.
    #[must_use]
    pub fn groups() -> Self {
        Self::at("/etc/group")
    }
}

impl Names for NameFile {
    fn id_of(&self, name: &str) -> Option<u32> {
        find_id(&fs::read_to_string(&self.path).ok()?, name)
    }
}

/// The id of a name: the third field of the first line whose first field is the name.
fn find_id(file: &str, name: &str) -> Option<u32> {
    file.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then(|| fields.nth(1)?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_their_whole_name_only() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nistio-proxy:x:1400:1400::/:/bin/false\n\
                      broken\nodd:x:no:1::/:\n";
        assert_eq!(find_id(passwd, "istio-proxy"), Some(1400));
        assert_eq!(find_id(passwd, "root"), Some(0));
        for name in ["istio", "broken", "odd", ""] {
            assert_eq!(find_id(passwd, name), None, "{name}");
        }
        assert_eq!(NameFile::at("/nowhere/passwd").id_of("root"), None);
        assert_eq!(find_id("staff:x:50:me,you\n", "staff"), Some(50));
    }
}
