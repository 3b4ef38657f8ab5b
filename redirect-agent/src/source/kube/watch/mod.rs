//! The pods of one node, as the API server tells them: listed once, then watched from there on.

mod news;
mod patience;
mod pauses;
mod watcher;

pub use self::patience::Patience;
pub(super) use self::{news::News, watcher::news};
