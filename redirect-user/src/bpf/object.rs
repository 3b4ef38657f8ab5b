//! Loading the embedded object: maps made and pinned, programs verified and pinned.

use std::fs;

use anyhow::{Context as _, Result, anyhow, bail};
use aya::{
    Ebpf, EbpfLoader,
    maps::Array,
    programs::{Program, ProgramError},
};
use redirect_common::{
    abi::{MapName, Meta, OWNER_OFFSETS},
    hooks::{FLOOR, Hook},
};

use super::{Pins, btf::owner_offsets};

/// The BPF object that this build carries.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/redirect"));

/// Loads everything and pins it under `pins`, whole or not at all: it is made in a staging folder
/// that gets its name at the end.
pub fn load(pins: &Pins) -> Result<()> {
    let staged = pins.staged();
    if staged.version().exists() {
        // Left by a process that was killed here.
        fs::remove_dir_all(staged.version()).context("remove a half-made folder")?;
    }
    for folder in [staged.programs(), staged.maps(), staged.pods()] {
        fs::create_dir_all(&folder).with_context(|| format!("make \"{}\"", folder.display()))?;
    }
    let result = load_and_pin(&staged).and_then(|()| {
        fs::rename(staged.version(), pins.version())
            .with_context(|| format!("rename to \"{}\"", pins.version().display()))
    });
    if result.is_err() {
        fs::remove_dir_all(staged.version()).context("remove a half-made folder")?;
    }
    result
}

fn load_and_pin(pins: &Pins) -> Result<()> {
    let offsets = owner_offsets().context("find where this kernel keeps a socket's owner")?;
    let mut object: Ebpf = EbpfLoader::new()
        .override_global(OWNER_OFFSETS, &offsets, true)
        .load(OBJECT)
        .map_err(|error| anyhow!(error))
        .with_context(|| format!("make the maps (needs CAP_BPF and Linux {FLOOR})"))?;

    for map in MapName::ALL {
        let name = map.name();
        let made = object.map(name).ok_or_else(|| anyhow!("find map `{name}` in the object"))?;
        made.pin(pins.map(map)).with_context(|| format!("pin map `{name}`"))?;
    }
    let meta: Array<_, Meta> = Array::create(1, 0).context("make map `META`")?;
    meta.pin(pins.meta()).context("pin map `META`")?;

    for hook in Hook::ALL {
        let name = hook.program();
        let program =
            object.program_mut(name).ok_or_else(|| anyhow!("find program `{name}` in the object"))?;
        verify(program).with_context(|| {
            format!("load program `{name}` (needs CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON and Linux {FLOOR})")
        })?;
        program.pin(pins.program(hook)).with_context(|| format!("pin program `{name}`"))?;
    }
    Ok(())
}

/// Loads one program; what the verifier says is cut to its last words.
fn verify(program: &mut Program) -> Result<()> {
    let result = if let Program::CgroupSockAddr(program) = program {
        program.load()
    } else if let Program::CgroupSockopt(program) = program {
        program.load()
    } else if let Program::SockOps(program) = program {
        program.load()
    } else {
        bail!("a kind of program this build does not attach")
    };
    match result {
        Err(ProgramError::LoadError { io_error, verifier_log }) => {
            let log = verifier_log.to_string();
            let last: Vec<_> = log.lines().rev().filter(|line| !line.is_empty()).take(3).collect();
            let last = last.into_iter().rev().collect::<Vec<_>>().join("; ");
            Err(io_error).context(format!("the verifier refused it: {last}"))
        }
        other => other.map_err(Into::into),
    }
}
