//! Putting the plugin into a node's network configuration, and taking it out.

mod installer;
#[cfg(test)]
mod tests;
mod watch;

pub use self::{
    installer::{Change, Entry, Places, install, remove},
    watch::watch,
};
