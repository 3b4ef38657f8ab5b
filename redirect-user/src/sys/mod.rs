//! The operating system: the only module with system calls of its own, and with unsafe code.
//!
//! Depends on nothing of ours. Used by `bpf`, `node` and the commands.

pub mod bpf;
pub mod bpffs;
pub mod capability;
pub mod cgroup;
pub mod credentials;
pub mod dir_lock;
pub mod iptables_save;
pub mod listeners;
pub mod netfilter;
pub mod netns;
pub mod open_files;
pub mod rcu;
pub mod resolv_conf;
pub mod signals;
pub mod thread;
pub mod userns;
