//! `cargo xtask setup`: finds or installs everything the other subcommands need.
//!
//! Each thing that can be missing is a `Part`. A part is found or installed on its own, so a second run changes
//! nothing, and the next run repairs a broken one. No part prompts. Only Debian packages are installed outside the
//! cache folders and rustup.

mod apt_index;
mod bpf_linker;
mod cargo_deny;
mod components;
mod debian;
mod envoy;
mod helm;
mod kubernetes;
mod packages;
mod part;
mod preparation;
mod purpose;
mod qemu;
mod toolchain;
mod venv;

pub(crate) use self::{
    apt_index::AptIndex,
    cargo_deny::program as cargo_deny,
    helm::program as helm,
    preparation::{Args, ensure, run},
    purpose::Purpose,
};
