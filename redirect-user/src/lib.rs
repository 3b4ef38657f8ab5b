//! The library that every user-space program stands on: from options to attached programs and the
//! maps of a running node.
//!
//! ```text
//! config ──► policy ──► bpf ──► node ──► redirectctl, redirect-agent
//!               ▲        ▲
//! sys ──────────┴────────┘              redirect-common below all of them
//! ```
//!
//! Strings become types in [`config`], types become map rows in [`policy`], rows reach the kernel
//! through [`bpf`], and [`node`] contains the operations on a node. [`console`] reads a program's
//! surroundings and prints its output. Only [`bpf`] names aya; only [`sys`] makes system calls of
//! its own.
//!
//! Redirecting one pod takes options, a cgroup, a network namespace and a writer of the state
//! directory:
//!
//! ```no_run
//! use std::path::Path;
//!
//! use redirect_common::chain::RuleId;
//! use redirect_user::{
//!     bpf::Pins,
//!     config::{Environment, Flags, NameFile, Opt, resolve},
//!     node::{Reader, Writer},
//!     sys::{
//!         cgroup::Cgroup,
//!         netns::{NetnsRef, NetnsSnapshot},
//!     },
//! };
//!
//! # fn main() -> anyhow::Result<()> {
//! let flags = Flags::from_iter([(Opt::ProxyUid, "1337"), (Opt::Include, "*")]);
//! let environment = Environment::default();
//! let config = resolve(&flags, &environment, &NameFile::users(), &NameFile::groups())?.config;
//!
//! let cgroup = Cgroup::open(Path::new("/sys/fs/cgroup/my-pod"))?;
//! let netns = NetnsSnapshot::read(&NetnsRef::Pid(4321))?;
//! let state_dir = Path::new(Pins::DEFAULT_STATE_DIR);
//! Writer::open(state_dir)?.attach(&cgroup, &netns, &config)?;
//!
//! // Any process can read the state while no writer holds the lock.
//! let reader = Reader::open(state_dir)?.expect("a state directory: the writer has created it");
//! let pod = reader.pod(cgroup.id(), cgroup.path())?;
//! println!("{} redirected", reader.hits(&pod)?.of(RuleId::AnyIncluded));
//! # Ok(())
//! # }
//! ```

pub mod bpf;
pub mod config;
pub mod console;
pub mod node;
pub mod policy;
pub mod sys;
