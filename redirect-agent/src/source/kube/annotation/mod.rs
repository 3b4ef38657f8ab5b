//! The annotations that say how a pod is redirected.

mod syntax;
mod table;
#[cfg(test)]
mod tests;

pub(super) use self::table::{apply, origin};
