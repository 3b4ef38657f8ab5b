//! The source of pods, with an API server that fails on demand as real ones do.

mod contract;
mod events;
mod fixture;
mod listener;
mod pods;
mod random_faults;
mod watch;
