//! Workloads described by the files of a folder, one each.

mod folder;
mod inotify;
mod source;
mod spec;
mod texts;

pub use self::source::FileSource;
