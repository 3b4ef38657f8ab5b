//! Network namespaces: opening one by name, and reading its cookie, addresses and routes from inside.

mod address;
mod cookie;
mod file;
mod netlink;
mod open;
mod routing;
mod snapshot;
mod watch;

pub use self::{
    address::{LocalAddress, LocalRange},
    file::NetnsFile,
    open::{NetnsHandle, NetnsId, NetnsRef},
    routing::{NetInterface, Obstacle, Route, Routing},
    snapshot::NetnsSnapshot,
    watch::Watch,
};
