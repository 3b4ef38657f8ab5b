//! The source of files: one workload for each file of a folder.

mod folder;
mod inotify;
mod source;
mod spec;
mod texts;

pub use self::source::FileSource;
