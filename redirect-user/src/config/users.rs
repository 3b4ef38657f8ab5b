//! The name of the proxy's user, and names of groups, looked up.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Knows the system's users. A closure will do.
pub trait Users {
    /// The uid of the user of this name, if there is one.
    fn uid_of(&self, name: &str) -> Option<u32>;
}

impl<F: Fn(&str) -> Option<u32>> Users for F {
    fn uid_of(&self, name: &str) -> Option<u32> {
        self(name)
    }
}

/// A file in the format of `/etc/passwd`, read at each question. A file that cannot be read has no
/// users.
#[derive(Clone, Debug)]
pub struct Passwd {
    path: PathBuf,
}

impl Passwd {
    /// The file at a path.
    #[must_use]
    pub fn at(path: impl AsRef<Path>) -> Self {
        Self {
            path: path.as_ref().to_owned(),
        }
    }

    /// `/etc/passwd`.
    #[must_use]
    pub fn system() -> Self {
        Self::at("/etc/passwd")
    }
}

impl Users for Passwd {
    fn uid_of(&self, name: &str) -> Option<u32> {
        find_id(&fs::read_to_string(&self.path).ok()?, name)
    }
}

/// Knows the system's groups. A closure will do.
pub trait Groups {
    /// The gid of the group of this name, if there is one.
    fn gid_of(&self, name: &str) -> Option<u32>;
}

impl<F: Fn(&str) -> Option<u32>> Groups for F {
    fn gid_of(&self, name: &str) -> Option<u32> {
        self(name)
    }
}

/// A file in the format of `/etc/group`, likewise.
#[derive(Clone, Debug)]
pub struct GroupFile {
    path: PathBuf,
}

impl GroupFile {
    /// The file at a path.
    #[must_use]
    pub fn at(path: impl AsRef<Path>) -> Self {
        Self {
            path: path.as_ref().to_owned(),
        }
    }

    /// `/etc/group`.
    #[must_use]
    pub fn system() -> Self {
        Self::at("/etc/group")
    }
}

impl Groups for GroupFile {
    fn gid_of(&self, name: &str) -> Option<u32> {
        find_id(&fs::read_to_string(&self.path).ok()?, name)
    }
}

/// The third field of the first line whose first field is the name.
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
    fn users_are_found_by_their_whole_name() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nistio-proxy:x:1400:1400::/:/bin/false\n\
                      broken\nodd:x:no:1::/:\n";
        assert_eq!(find_id(passwd, "istio-proxy"), Some(1400));
        assert_eq!(find_id(passwd, "root"), Some(0));
        for name in ["istio", "broken", "odd", ""] {
            assert_eq!(find_id(passwd, name), None, "{name}");
        }
        assert_eq!(Passwd::at("/nowhere/passwd").uid_of("root"), None);
        assert_eq!(find_id("staff:x:50:me,you\n", "staff"), Some(50));
        assert_eq!(GroupFile::at("/nowhere/group").gid_of("root"), None);
    }
}
