//! `redirectctl`, as a library: the command line, and what only the command line does.
//!
//! [`cli`] has a file per subcommand, each a thin call into redirect-user or redirect-iptables.
//! [`exec`] runs one command redirected, [`proxy`] is the small forwarder, and [`docs`] writes the
//! tables of the documentation that are read off the code.

pub mod cli;
pub mod docs;
pub mod exec;
pub mod proxy;
