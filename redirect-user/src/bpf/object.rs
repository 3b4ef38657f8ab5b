//! Loading the embedded object: maps made and pinned, programs verified and pinned.

use std::{fs, os::fd::BorrowedFd, path::PathBuf};

use anyhow::{Context as _, Error, Result, anyhow, bail};
use aya::{
    Ebpf, EbpfError, EbpfLoader,
    maps::{Array, HashMap, MapError, MapType},
    programs::{Program, ProgramError, SkLookup, links::FdLink},
    sys::is_map_supported,
};
use redirect_common::{
    abi::{
        Fingerprint, INBOUND_POD, IdKey, IdLine, MAX_IDS, MAX_POLICIES, MapName, Meta,
        OWNER_OFFSETS, OwnerOffsets, PolicyId,
    },
    hooks::{FLOOR, Hook},
};
use sha2::{Digest as _, Sha256};

use super::{Pins, btf::owner_offsets};
use crate::sys::{cgroup::CgroupId, signals::without_signals};

/// The BPF object that this build carries.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/redirect"));

/// `BPF_F_NO_PREALLOC` (include/uapi/linux/bpf.h): memory for what is there, not for what may be.
const NO_PREALLOC: u32 = 1;

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
    let result = without_signals(|| load_and_pin(&staged)).and_then(|()| {
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
    let mut object = make_maps(&offsets)
        .with_context(|| format!("make the maps (needs CAP_BPF and Linux {FLOOR})"))?;

    for map in MapName::ALL {
        let name = map.name();
        let made = object
            .map(name)
            .ok_or_else(|| anyhow!("find map `{name}` in the object"))?;
        made.pin(pins.map(map))
            .with_context(|| format!("pin map `{name}`"))?;
    }
    let ids: HashMap<_, IdKey, IdLine> =
        HashMap::create(MAX_IDS, NO_PREALLOC).context("make map `IDS`")?;
    ids.pin(pins.ids()).context("pin map `IDS`")?;
    let policies: HashMap<_, Fingerprint, PolicyId> =
        HashMap::create(MAX_POLICIES, NO_PREALLOC).context("make map `POLICIES`")?;
    policies
        .pin(pins.policies())
        .context("pin map `POLICIES`")?;
    let mut meta: Array<_, Meta> = Array::create(1, 0).context("make map `META`")?;
    let first = Meta {
        build: build(),
        ..Meta::default()
    };
    meta.set(0, first, 0)
        .context("write the redirector's record")?;
    meta.pin(pins.meta()).context("pin map `META`")?;

    pin_programs(&mut object, |hook| pins.program(hook))
}

/// Makes the object's maps. They go when the value goes, unless they are pinned.
fn make_maps(offsets: &OwnerOffsets) -> Result<Ebpf, EbpfError> {
    EbpfLoader::new()
        .override_global(OWNER_OFFSETS, offsets, true)
        .load(OBJECT)
}

/// What tells builds apart: the beginning of the digest of the object.
pub fn build() -> u64 {
    let digest: [u8; 32] = Sha256::digest(OBJECT).into();
    let first = digest.iter().take(size_of::<u64>());
    first.fold(0, |number, byte| number << u8::BITS | u64::from(*byte))
}

/// Loads the programs of this build, which work on the pinned maps, and pins them beside those that are
/// pinned, which they are to replace: [`take_new_programs`]. The lookup program, which each pod has its own of,
/// is only tried, if some pod has one.
pub fn prepare_programs(pins: &Pins, with_lookup: bool) -> Result<()> {
    let folder = pins.new_programs();
    remove_new_programs(pins)?;
    fs::create_dir(&folder).with_context(|| format!("make \"{}\"", folder.display()))?;
    let made = without_signals(|| {
        let offsets = owner_offsets().context("find where this kernel keeps a socket's owner")?;
        let mut object = on_pinned_maps(pins)
            .override_global(OWNER_OFFSETS, &offsets, true)
            .load(OBJECT)
            .context("open the pinned maps")?;
        if with_lookup {
            load_program(&mut object, Hook::SkLookup)?;
        }
        pin_programs(&mut object, |hook| folder.join(hook.program()))
    });
    if made.is_err() {
        remove_new_programs(pins)?;
    }
    made
}

/// Puts programs that are prepared in place of those that are pinned. What is attached stays so.
pub fn take_new_programs(pins: &Pins) -> Result<()> {
    let folder = pins.new_programs();
    for hook in Hook::ALL {
        let pin = pins.program(hook);
        fs::rename(folder.join(hook.program()), &pin)
            .with_context(|| format!("replace \"{}\"", pin.display()))?;
    }
    remove_new_programs(pins)
}

/// Removes what is prepared, or was left so by a process that was killed.
fn remove_new_programs(pins: &Pins) -> Result<()> {
    let folder = pins.new_programs();
    if folder.exists() {
        fs::remove_dir_all(&folder).context("remove half-made programs")?;
    }
    Ok(())
}

/// Verifies the programs of the cgroup hooks, and pins them.
fn pin_programs(object: &mut Ebpf, pin: impl Fn(Hook) -> PathBuf) -> Result<()> {
    for hook in Hook::ALL {
        load_program(object, hook)?
            .pin(pin(hook))
            .with_context(|| format!("pin program `{}`", hook.program()))?;
    }
    Ok(())
}

fn load_program(object: &mut Ebpf, hook: Hook) -> Result<&mut Program> {
    let program = program(object, hook)?;
    verify(program).with_context(|| {
        let name = hook.program();
        format!(
            "load program `{name}` (needs CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON and Linux {FLOOR})"
        )
    })?;
    Ok(program)
}

/// A loader of objects that work on the pinned maps.
fn on_pinned_maps<'loader>(pins: &Pins) -> EbpfLoader<'loader> {
    let mut loader = EbpfLoader::new();
    for map in MapName::ALL {
        loader.map_pin_path(map.name(), pins.map(map));
    }
    loader
}

/// Loads the lookup program for one pod, which works on the pinned maps, and attaches it to the
/// pod's network namespace. It does nothing before the pod has an inbound row.
pub(super) fn attach_inbound(pins: &Pins, pod: CgroupId, netns: BorrowedFd<'_>) -> Result<FdLink> {
    with_inbound(pins, pod, |program| {
        let attached = program
            .attach(netns)
            .and_then(|id| program.take_link(id))
            .with_context(|| format!("attach program `{}`", Hook::SkLookup.program()))?;
        Ok(attached.into())
    })
}

/// Loads the lookup program for one pod, and does something with it.
pub(super) fn with_inbound<T: Send>(
    pins: &Pins,
    pod: CgroupId,
    act: impl FnOnce(&mut SkLookup) -> Result<T> + Send,
) -> Result<T> {
    without_signals(|| {
        let hook = Hook::SkLookup;
        let mut object = on_pinned_maps(pins)
            .override_global(INBOUND_POD, &pod, true)
            .load(OBJECT)
            .context("open the pinned maps")?;
        let program = program(&mut object, hook)?;
        verify(program).with_context(|| format!("load program `{}`", hook.program()))?;
        act(program.try_into()?)
    })
}

fn program(object: &mut Ebpf, hook: Hook) -> Result<&mut Program> {
    let name = hook.program();
    object
        .program_mut(name)
        .ok_or_else(|| anyhow!("find program `{name}` in the object"))
}

/// What became of one part of the object in a trial.
#[derive(Debug)]
pub enum Attempt {
    /// The kernel takes it.
    Taken,
    /// The kernel refuses it.
    Refused(Error),
    /// It was not tried, because of this.
    NotTried(&'static str),
}

impl From<Result<()>> for Attempt {
    fn from(result: Result<()>) -> Self {
        result.map_or_else(Self::Refused, |()| Self::Taken)
    }
}

/// What the kernel says to each part of the object.
#[derive(Debug)]
pub struct Trial {
    /// Every map.
    pub maps: Vec<(MapName, Attempt)>,
    /// Every program.
    pub programs: Vec<(Hook, Attempt)>,
}

/// Makes every map and loads every program, as [`load`] does, and keeps nothing: without a pin
/// they go with this call.
pub fn try_load() -> Trial {
    // Without the offsets the programs are as good: the verifier does not ask what they are for.
    let offsets = owner_offsets().unwrap_or_default();
    match make_maps(&offsets) {
        Ok(mut object) => Trial {
            maps: MapName::ALL.map(|map| (map, Attempt::Taken)).into(),
            programs: tried()
                .map(|hook| (hook, program(&mut object, hook).and_then(verify).into()))
                .collect(),
        },
        Err(error) => {
            let failed = if let EbpfError::MapError(MapError::CreateError { name, .. }) = &error {
                MapName::ALL.into_iter().find(|map| map.name() == name)
            } else {
                None
            };
            let mut maps: Vec<_> = MapName::ALL.map(|map| (map, of_its_type(map))).into();
            let error = anyhow!(error);
            if let Some((_, attempt)) = maps.iter_mut().find(|(map, _)| Some(*map) == failed) {
                *attempt = Attempt::Refused(error);
            } else {
                // The object as a whole was refused, which no map is to blame for.
                let text = format!("{error:#}");
                for (_, attempt) in &mut maps {
                    *attempt = Attempt::Refused(anyhow!(text.clone()));
                }
            }
            let programs = tried()
                .map(|hook| (hook, Attempt::NotTried("the maps could not be made")))
                .collect();
            Trial { maps, programs }
        }
    }
}

/// The programs of the object.
fn tried() -> impl Iterator<Item = Hook> {
    Hook::ALL.into_iter().chain([Hook::SkLookup])
}

/// Whether the kernel has this kind of map at all: making the object's maps ends at the first
/// that fails.
fn of_its_type(map: MapName) -> Attempt {
    match is_map_supported(kind(map)) {
        Ok(true) => Attempt::Taken,
        Ok(false) => Attempt::Refused(anyhow!("this kernel has no such map")),
        Err(error) => Attempt::Refused(error.into()),
    }
}

/// The type of a map.
const fn kind(map: MapName) -> MapType {
    match map {
        MapName::Pods => MapType::CgroupStorage,
        MapName::RuleHits => MapType::PerCpuCgroupStorage,
        MapName::ShadowFlows | MapName::ShadowDiffs => MapType::LruHash,
        MapName::Locals
        | MapName::Ports
        | MapName::Groups
        | MapName::StandIns
        | MapName::StandInCounts
        | MapName::Flows
        | MapName::Inbound => MapType::Hash,
        MapName::InHits => MapType::PerCpuHash,
        MapName::Listeners => MapType::SockHash,
        MapName::Cidrs4 | MapName::Cidrs6 => MapType::LpmTrie,
        MapName::OrigDst | MapName::DnsPending => MapType::SkStorage,
    }
}

/// Loads one program; what the verifier says is cut to its last words.
fn verify(program: &mut Program) -> Result<()> {
    let result = if let Program::CgroupSockAddr(program) = program {
        program.load()
    } else if let Program::CgroupSockopt(program) = program {
        program.load()
    } else if let Program::SockOps(program) = program {
        program.load()
    } else if let Program::SkLookup(program) = program {
        program.load()
    } else {
        bail!("a kind of program this build does not attach")
    };
    match result {
        Err(ProgramError::LoadError {
            io_error,
            verifier_log,
        }) => {
            let log = verifier_log.to_string();
            let last: Vec<_> = log
                .lines()
                .rev()
                .filter(|line| !line.is_empty())
                .take(3)
                .collect();
            let last = last.into_iter().rev().collect::<Vec<_>>().join("; ");
            Err(io_error).context(format!("the verifier refused it: {last}"))
        }
        other => other.map_err(Into::into),
    }
}
