//! The pods of one node, as the API server tells them: listed once, then watched from there on.

mod failure;
mod pauses;
mod watcher;

pub use self::pauses::Patience;
pub(super) use self::{
    failure::answered,
    watcher::{News, news},
};
