//! The annotations that say how a pod is redirected.

mod table;
#[cfg(test)]
mod tests;

pub(super) use self::table::{apply, before_proxy, origin};
