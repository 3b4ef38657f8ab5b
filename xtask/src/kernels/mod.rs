//! Debian's kernels: fetched, booted in a machine of QEMU, and tested there.

mod cpio;
mod guest;
mod kernel;
mod machine;
mod report;
mod run;
mod series;

pub(crate) use self::{run::run, series::Series};
