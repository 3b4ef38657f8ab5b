//! Opening a pinned map as the type it should have, and what the kernel's answers mean.

use std::{io::ErrorKind, path::Path};

use anyhow::{Context as _, Result, anyhow};
use aya::maps::{MapData, MapError, MapInfo, MapType, PerCpuValues};
use redirect_common::abi::Hits;

/// Opens a pin, checking that it is the map it should be, with keys `K` and values `V`.
pub(in crate::bpf) fn open<K, V>(path: &Path, kind: MapType) -> Result<MapData> {
    let foreign = || {
        format!(
            "open map \"{}\": it is not one of this version's: remove all with `redirectctl uninstall`, then attach anew",
            path.display()
        )
    };
    let info = MapInfo::from_pin(path).map_err(|error| {
        // Whoever cannot open it at all has nothing to remove.
        let context = if is_forbidden(&error) {
            format!("open map \"{}\"", path.display())
        } else {
            foreign()
        };
        anyhow!(error).context(context)
    })?;
    let found = (
        info.map_type().with_context(foreign)?,
        usize::try_from(info.key_size()).with_context(foreign)?,
        usize::try_from(info.value_size()).with_context(foreign)?,
    );
    let expected = (kind, size_of::<K>(), size_of::<V>());
    if found != expected {
        let text = |(kind, key, value): (MapType, usize, usize)| {
            format!("{kind:?} with keys of {key} and values of {value} bytes")
        };
        return Err(anyhow!(
            "expected {}, found {}",
            text(expected),
            text(found)
        ))
        .with_context(foreign);
    }
    MapData::from_pin(path).with_context(foreign)
}

/// Whether it is not the pin that is wrong, but whoever opens it, or its file system.
fn is_forbidden(error: &MapError) -> bool {
    let MapError::SyscallError(error) = error else {
        return false;
    };
    matches!(
        error.io_error.kind(),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem
    )
}

/// `KeyNotFound` is an answer, not an error.
pub(in crate::bpf) fn optional<T>(result: Result<T, MapError>) -> Result<Option<T>, MapError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(MapError::KeyNotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removing what is not there is done.
pub(in crate::bpf) fn gone(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.kind() == ErrorKind::NotFound => {
            Ok(())
        }
        other => other,
    }
}

/// The counters of all CPUs together.
pub(in crate::bpf) fn sum(per_cpu: Option<PerCpuValues<Hits>>) -> Hits {
    per_cpu.map_or(Hits::ZERO, |values| {
        values.iter().fold(Hits::ZERO, Hits::plus)
    })
}

/// Counters at zero, for every CPU.
pub(in crate::bpf) fn no_hits() -> Result<PerCpuValues<Hits>> {
    let cpus = aya::util::nr_cpus().map_err(|(path, error)| anyhow!(error).context(path))?;
    PerCpuValues::try_from(vec![Hits::ZERO; cpus]).context("count the CPUs")
}
