//! Installing the plugin in a node's network configuration.

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
