//! The log output of the programs, in a build with the feature "log".

use anyhow::{Context as _, Result};
use aya::programs::ProgramInfo;
use aya_log::EbpfLogger;
use redirect_common::hooks::Hook;
use tokio::io::unix::AsyncFd;

use super::pins::Pins;

/// Passes every record that the pinned programs log to `logger`. Returns only with an error.
pub async fn follow(pins: &Pins, logger: impl log::Log) -> Result<()> {
    // All programs of the object log into one map.
    let info = ProgramInfo::from_pin(pins.program(Hook::Connect4)).context("open program")?;
    let records = EbpfLogger::init_from_id_with_logger(info.id(), logger).context(
        "follow the log: were the programs loaded by a build without the feature \"log\"?",
    )?;
    let mut records = AsyncFd::new(records).context("follow the log")?;
    loop {
        let mut ready = records.readable_mut().await.context("follow the log")?;
        ready.get_inner_mut().flush();
        ready.clear_ready();
    }
}
