// SPDX-License-Identifier: MIT OR Apache-2.0
//! The machine that a benchmark ran on.

use std::{fmt, fs, thread::available_parallelism};

use anyhow::{Context as _, Result};
use serde::Serialize;

/// The kernel and the processors of the machine.
#[derive(Debug, Serialize)]
pub struct Hardware {
    /// The release of the kernel, from uname(2).
    pub kernel: String,
    /// The model of the processor, from `/proc/cpuinfo`.
    pub cpu: String,
    /// The number of processors that this process may use.
    pub cpus: usize,
}

impl Hardware {
    /// Reads the properties of this machine.
    pub fn this() -> Result<Self> {
        let kernel = rustix::system::uname()
            .release()
            .to_string_lossy()
            .into_owned();
        let table = fs::read_to_string("/proc/cpuinfo").context("read \"/proc/cpuinfo\"")?;
        let cpu = table
            .lines()
            .find(|line| line.starts_with("model name"))
            .and_then(|line| line.split_once(": "));
        Ok(Self {
            kernel,
            cpu: cpu.map_or("unknown", |(_, name)| name).to_owned(),
            cpus: available_parallelism().context("count processors")?.get(),
        })
    }
}

impl fmt::Display for Hardware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Linux {}, {} × {}", self.kernel, self.cpus, self.cpu)
    }
}
