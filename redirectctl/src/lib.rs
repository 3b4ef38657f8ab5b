//! `redirectctl` as a library: the command line, and the parts that no other program needs.
//!
//! [`cli`] has a file per subcommand, each a thin call into redirect-user or redirect-iptables.
//! [`exec`] runs one command with redirection, [`proxy`] is the small forwarder, and [`docs`] writes the
//! tables of the documentation that are read off the code, and off the results in [`kernels`].

pub mod cli;
pub mod docs;
pub mod exec;
pub mod kernels;
pub mod proxy;
