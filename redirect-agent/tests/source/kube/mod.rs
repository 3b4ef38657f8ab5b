//! The pods of a node, from an API server that does what real ones do badly.

mod contract;
mod events;
mod fixture;
mod listener;
mod pods;
mod random_faults;
mod watch;
