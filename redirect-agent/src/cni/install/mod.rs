//! Putting the plugin into a node's network configuration, and taking it out.

mod change;
mod conflist;
mod installer;
#[cfg(test)]
mod tests;
mod watch;

pub use self::{
    change::Change,
    installer::{CniDirs, Entry, install, remove},
    watch::watch,
};
