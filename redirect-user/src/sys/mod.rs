//! The operating system. Only this module makes system calls of its own and contains unsafe code.

pub mod attached;
pub mod bpf;
pub mod bpffs;
pub mod capability;
pub mod cgroup;
pub mod credentials;
pub mod dir_lock;
pub mod iptables_save;
pub mod kernel_features;
pub mod limits;
pub mod listeners;
pub mod netfilter;
pub mod netns;
pub mod open_files;
pub mod resolv_conf;
pub mod signals;
pub mod thread;
pub mod userns;
