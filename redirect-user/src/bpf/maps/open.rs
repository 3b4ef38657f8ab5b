//! The opening of pinned maps with a check of their type, and the interpretation of the kernel's
//! answers.

use std::{io::ErrorKind, path::Path};

use anyhow::{Context as _, Error, Result, anyhow, bail};
use aya::maps::{MapData, MapError, MapInfo, MapType, PerCpuValues};
use redirect_common::abi::Hits;
use rustix::io::Errno;

/// The error for a map whose pin another program has removed.
pub(super) fn pin_gone(path: &Path) -> Error {
    anyhow!(
        "open map \"{}\": its pin is gone, removed by another program: run `redirectctl upgrade`, which pins the map anew",
        path.display()
    )
}

/// Opens a pinned map and checks that it has the expected type, keys `K` and values `V`.
pub(in crate::bpf) fn open<K, V>(path: &Path, kind: MapType) -> Result<MapData> {
    let foreign = || {
        format!(
            "open map \"{}\": it is not one of this version's: remove all with `redirectctl uninstall --yes`, then attach anew",
            path.display()
        )
    };
    if !path.exists() {
        return Err(pin_gone(path));
    }
    let info = MapInfo::from_pin(path).map_err(|error| {
        // A process that cannot open the map cannot remove it either.
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

/// Opens a pinned map as [`open`] does; `None` if there is no pin.
pub(super) fn open_if_pinned<K, V>(path: &Path, kind: MapType) -> Result<Option<MapData>> {
    if path.exists() {
        open::<K, V>(path, kind).map(Some)
    } else {
        Ok(None)
    }
}

/// Whether the kernel answered with this error.
pub(super) fn is_errno(error: &MapError, errno: Errno) -> bool {
    matches!(error, MapError::SyscallError(error)
        if error.io_error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Whether the error is about the caller's rights or the file system, not about the pin.
fn is_forbidden(error: &MapError) -> bool {
    let MapError::SyscallError(error) = error else {
        return false;
    };
    matches!(
        error.io_error.kind(),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem
    )
}

/// Turns the error `KeyNotFound` into `None`.
pub(in crate::bpf) fn optional<T>(result: Result<T, MapError>) -> Result<Option<T>, MapError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(MapError::KeyNotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Ignores the error of removing an entry that does not exist.
pub(in crate::bpf) fn ignore_missing(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.kind() == ErrorKind::NotFound => {
            Ok(())
        }
        other => other,
    }
}

/// Adds to an error which entry could not be stored and, if the map is full, how many entries all
/// pods of a node can have.
pub(in crate::bpf) fn check_stored(
    result: Result<(), MapError>,
    entry: impl FnOnce() -> String,
    most: usize,
    entries: &str,
) -> Result<()> {
    match result {
        Err(error) if is_errno(&error, Errno::TOOBIG) => bail!(
            "store {}: the pods of this node have {most} {entries}, and there is no room for more: remove some",
            entry()
        ),
        result => result.with_context(|| format!("store {}", entry())),
    }
}

/// The sum of the counters of all CPUs.
pub(in crate::bpf) fn sum(per_cpu: Option<PerCpuValues<Hits>>) -> Hits {
    per_cpu.map_or(Hits::ZERO, |values| {
        values.iter().fold(Hits::ZERO, Hits::plus)
    })
}

/// Counters that are zero for every CPU.
pub(in crate::bpf) fn no_hits() -> Result<PerCpuValues<Hits>> {
    let cpus = aya::util::nr_cpus().map_err(|(path, error)| anyhow!(error).context(path))?;
    PerCpuValues::try_from(vec![Hits::ZERO; cpus]).context("count the CPUs")
}
