//! Loading the embedded object: creating and pinning maps, verifying and pinning programs.

use std::{fs, io::Read as _, os::fd::BorrowedFd, path::PathBuf};

use anyhow::{Context as _, Error, Result, anyhow};
use aya::{
    Ebpf, EbpfError, EbpfLoader,
    maps::{Array, HashMap, MapError, MapType},
    programs::{Program, ProgramError, SkLookup, links::FdLink},
    sys::is_map_supported,
};
use redirect_common::{
    abi::{
        GroupFlags, INBOUND_POD, IdKey, IdLine, KERNEL_FEATURES, KernelFeatures, MAX_IDS,
        MAX_POLICIES, MapName, Meta, NETNS_OFFSETS, NetnsOffsets, OWNER_OFFSETS, OwnerOffsets,
        PolicyId, PolicyRecord,
    },
    hooks::{FLOOR, Hook},
};
use sha2::{Digest as _, Sha256};

use super::{
    btf::{BtfError, netns_offsets, owner_offsets},
    pins::Pins,
};
use crate::sys::{
    cgroup::CgroupId, kernel_features::kernel_features, limits::lift_locked_memory,
    signals::without_signals,
};

/// The BPF object that is embedded in this build.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/redirect"));

/// `BPF_F_NO_PREALLOC` (include/uapi/linux/bpf.h): allocate memory per entry instead of for the
/// full size.
pub(super) const NO_PREALLOC: u32 = 1;

/// Loads the object and pins it under `pins`, completely or not at all: everything is created in a
/// staging folder, which is renamed at the end.
pub fn load(pins: &Pins) -> Result<()> {
    let staged = pins.staged();
    if staged.version().exists() {
        // A process was killed while it loaded.
        fs::remove_dir_all(staged.version()).context("remove an incomplete folder")?;
    }
    for folder in [staged.programs(), staged.maps(), staged.pods()] {
        fs::create_dir_all(&folder).with_context(|| format!("create \"{}\"", folder.display()))?;
    }
    let result = without_signals(|| load_and_pin(&staged)).and_then(|()| {
        fs::rename(staged.version(), pins.version())
            .with_context(|| format!("rename to \"{}\"", pins.version().display()))
    });
    if result.is_err() {
        fs::remove_dir_all(staged.version()).context("remove an incomplete folder")?;
    }
    result
}

fn load_and_pin(pins: &Pins) -> Result<()> {
    let constants = Constants::read()?;
    let mut object = create_maps(EbpfLoader::new(), &constants)
        .with_context(|| format!("create the maps (needs CAP_BPF and Linux {FLOOR})"))?;

    for map in MapName::ALL {
        let name = map.name();
        let loaded = object
            .map(name)
            .ok_or_else(|| anyhow!("find map `{name}` in the object"))?;
        loaded
            .pin(pins.map(map))
            .with_context(|| format!("pin map `{name}`"))?;
    }
    let ids: HashMap<_, IdKey, IdLine> =
        HashMap::create(MAX_IDS, NO_PREALLOC).context("create map `IDS`")?;
    ids.pin(pins.ids()).context("pin map `IDS`")?;
    pin_no_groups(pins)?;
    let policies: HashMap<_, PolicyId, PolicyRecord> =
        HashMap::create(MAX_POLICIES, NO_PREALLOC).context("create map `POLICIES`")?;
    policies
        .pin(pins.policies())
        .context("pin map `POLICIES`")?;
    let mut meta: Array<_, Meta> = Array::create(1, 0).context("create map `META`")?;
    let first = Meta {
        build: build(),
        fingerprint_key: random_key()?,
        ..Meta::default()
    };
    meta.set(0, first, 0)
        .context("write the redirector's state")?;
    meta.pin(pins.meta()).context("pin map `META`")?;

    pin_programs(&mut object, |hook| pins.program(hook))
}

/// Creates the maps of the object. They are gone when the value is dropped, unless they are pinned.
pub(super) fn create_maps<'constants>(
    mut loader: EbpfLoader<'constants>,
    constants: &'constants Constants,
) -> Result<Ebpf, EbpfError> {
    constants.write(&mut loader);
    loader.load(OBJECT)
}

/// The abilities of the running kernel. On old kernels, the limit that maps count against is lifted.
fn features() -> Result<KernelFeatures> {
    let features = kernel_features();
    if !features.netns_cookie() {
        lift_locked_memory()?;
    }
    Ok(features)
}

/// The constants of the object that depend on the kernel.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Constants {
    features: KernelFeatures,
    owner: OwnerOffsets,
    netns: NetnsOffsets,
}

impl Constants {
    /// Reads the constants of the running kernel.
    pub(super) fn read() -> Result<Self> {
        let features = features()?;
        Self::with(features).context("find where this kernel stores a socket's owner")
    }

    /// The constants for these abilities.
    fn with(features: KernelFeatures) -> Result<Self, BtfError> {
        let netns = if features.netns_cookie() {
            NetnsOffsets::default()
        } else {
            netns_offsets()?
        };
        Ok(Self {
            features,
            owner: owner_offsets()?,
            netns,
        })
    }

    /// Has the loader write the constants into the object, where the kernel freezes them.
    fn write<'constants>(&'constants self, loader: &mut EbpfLoader<'constants>) {
        loader
            .override_global(KERNEL_FEATURES, &self.features, true)
            .override_global(OWNER_OFFSETS, &self.owner, true)
            .override_global(NETNS_OFFSETS, &self.netns, true);
    }
}

/// Creates and pins the map of no policy: an empty one, stored again and again to wait for programs.
pub(super) fn pin_no_groups(pins: &Pins) -> Result<()> {
    let empty: HashMap<_, u32, GroupFlags> =
        HashMap::create(1, NO_PREALLOC).context("create an empty map of `GROUPS`")?;
    empty
        .pin(pins.policy_map(MapName::Groups, PolicyId::NONE))
        .context("pin an empty map of `GROUPS`")
}

/// A key that nobody can know.
pub(super) fn random_key() -> Result<[u8; 16]> {
    let mut key = [0; 16];
    let reading = || "read random bytes from \"/dev/urandom\"";
    let mut random = fs::File::open("/dev/urandom").with_context(reading)?;
    random.read_exact(&mut key).with_context(reading)?;
    Ok(key)
}

/// The identity of this build: the first bytes of the digest of its object.
pub fn build() -> u64 {
    let digest: [u8; 32] = Sha256::digest(OBJECT).into();
    let first = digest.iter().take(size_of::<u64>());
    first.fold(0, |number, byte| number << u8::BITS | u64::from(*byte))
}

/// Loads the programs of this build with the pinned maps, and pins them beside the programs that
/// [`take_new_programs`] then replaces. The lookup program is loaded for each pod when it is
/// replaced; here it is only verified, if some pod has one.
pub fn prepare_programs(pins: &Pins, with_lookup: bool) -> Result<()> {
    let folder = pins.new_programs();
    remove_new_programs(pins)?;
    fs::create_dir(&folder).with_context(|| format!("create \"{}\"", folder.display()))?;
    let prepared = without_signals(|| {
        let constants = Constants::read()?;
        let mut loader = on_pinned_maps(pins);
        constants.write(&mut loader);
        let mut object = loader.load(OBJECT).context("open the pinned maps")?;
        if with_lookup {
            load_program(&mut object, Hook::SkLookup)?;
        }
        pin_programs(&mut object, |hook| folder.join(hook.program()))
    });
    if prepared.is_err() {
        remove_new_programs(pins)?;
    }
    prepared
}

/// Replaces the pinned programs with the prepared ones. Links keep their programs.
pub fn take_new_programs(pins: &Pins) -> Result<()> {
    let folder = pins.new_programs();
    for hook in Hook::ALL {
        let pin = pins.program(hook);
        fs::rename(folder.join(hook.program()), &pin)
            .with_context(|| format!("replace \"{}\"", pin.display()))?;
    }
    remove_new_programs(pins)
}

/// Removes prepared programs, including those that a killed process has left.
fn remove_new_programs(pins: &Pins) -> Result<()> {
    let folder = pins.new_programs();
    if folder.exists() {
        fs::remove_dir_all(&folder).context("remove incomplete programs")?;
    }
    Ok(())
}

/// Verifies the programs of the cgroup hooks and pins them.
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

/// A loader of objects that use the pinned maps.
fn on_pinned_maps<'loader>(pins: &Pins) -> EbpfLoader<'loader> {
    let mut loader = EbpfLoader::new();
    for map in MapName::ALL {
        loader.map_pin_path(map.name(), pins.map(map));
    }
    loader
}

/// Loads the lookup program for one pod with the pinned maps, and attaches it to the pod's network
/// namespace. It has no effect before the pod has an inbound row.
pub(super) fn attach_inbound(pins: &Pins, pod: CgroupId, netns: BorrowedFd<'_>) -> Result<FdLink> {
    with_inbound(pins, pod, |program| {
        let attached = program
            .attach(netns)
            .and_then(|id| program.take_link(id))
            .with_context(|| format!("attach program `{}`", Hook::SkLookup.program()))?;
        Ok(attached.into())
    })
}

/// Loads the lookup program for one pod, and calls `act` with it.
pub(super) fn with_inbound<T: Send>(
    pins: &Pins,
    pod: CgroupId,
    act: impl FnOnce(&mut SkLookup) -> Result<T> + Send,
) -> Result<T> {
    without_signals(|| {
        let hook = Hook::SkLookup;
        // The other constants are for other programs.
        let features = features()?;
        let mut object = on_pinned_maps(pins)
            .override_global(KERNEL_FEATURES, &features, true)
            .override_global(INBOUND_POD, &pod, true)
            .load(OBJECT)
            .context("open the pinned maps")?;
        let program = program(&mut object, hook)?;
        verify(program).with_context(|| format!("load program `{}`", hook.program()))?;
        act(program.try_into()?)
    })
}

pub(super) fn program(object: &mut Ebpf, hook: Hook) -> Result<&mut Program> {
    let name = hook.program();
    object
        .program_mut(name)
        .ok_or_else(|| anyhow!("find program `{name}` in the object"))
}

/// The result of trying one part of the object.
#[derive(Debug)]
pub enum Attempt {
    /// The kernel accepts the part.
    Accepted,
    /// The kernel refuses it.
    Refused(Error),
    /// The part was not tried, for this reason.
    NotTried(&'static str),
}

impl From<Result<()>> for Attempt {
    fn from(result: Result<()>) -> Self {
        result.map_or_else(Self::Refused, |()| Self::Accepted)
    }
}

/// The results of trying every part of the object.
#[derive(Debug)]
pub struct Trial {
    /// The result of each map.
    pub maps: Vec<(MapName, Attempt)>,
    /// The result of each program.
    pub programs: Vec<(Hook, Attempt)>,
}

/// Creates every map and loads every program, as [`load`] does on a kernel with these abilities, but
/// keeps none: without a pin they are gone when this call returns.
pub fn try_load(abilities: KernelFeatures) -> Trial {
    if let Err(error) = features() {
        let refused = || Attempt::Refused(anyhow!(format!("{error:#}")));
        return Trial {
            maps: MapName::ALL.map(|map| (map, refused())).into(),
            programs: all_hooks().map(|hook| (hook, refused())).collect(),
        };
    }
    // The offsets may be missing: the verifier does not depend on their values.
    let constants = Constants::with(abilities).unwrap_or(Constants {
        features: abilities,
        ..Constants::default()
    });
    match create_maps(EbpfLoader::new(), &constants) {
        Ok(mut object) => Trial {
            maps: MapName::ALL.map(|map| (map, Attempt::Accepted)).into(),
            programs: all_hooks()
                .map(|hook| (hook, program(&mut object, hook).and_then(verify).into()))
                .collect(),
        },
        Err(error) => {
            let failed = if let EbpfError::MapError(MapError::CreateError { name, .. }) = &error {
                MapName::ALL.into_iter().find(|map| map.name() == name)
            } else {
                None
            };
            let mut maps: Vec<_> = MapName::ALL.map(|map| (map, try_map_type(map))).into();
            let error = anyhow!(error);
            if let Some((_, attempt)) = maps.iter_mut().find(|(map, _)| Some(*map) == failed) {
                *attempt = Attempt::Refused(error);
            } else {
                // The object as a whole was refused, not one of its maps.
                let text = format!("{error:#}");
                for (_, attempt) in &mut maps {
                    *attempt = Attempt::Refused(anyhow!(text.clone()));
                }
            }
            let programs = all_hooks()
                .map(|hook| (hook, Attempt::NotTried("the maps could not be created")))
                .collect();
            Trial { maps, programs }
        }
    }
}

/// The hooks of all programs of the object.
pub(super) fn all_hooks() -> impl Iterator<Item = Hook> {
    Hook::ALL.into_iter().chain([Hook::SkLookup])
}

/// Whether the kernel supports this type of map. Creating the object's maps ends at the first map
/// that fails, so the others are tried by their type.
fn try_map_type(map: MapName) -> Attempt {
    match is_map_supported(kind(map)) {
        Ok(true) => Attempt::Accepted,
        Ok(false) => Attempt::Refused(anyhow!("this kernel has no such type of map")),
        Err(error) => Attempt::Refused(error.into()),
    }
}

/// The kernel's type of a map.
const fn kind(map: MapName) -> MapType {
    match map {
        MapName::Pods => MapType::CgroupStorage,
        MapName::RuleHits => MapType::PerCpuCgroupStorage,
        MapName::ShadowFlows | MapName::ShadowDiffs => MapType::LruHash,
        MapName::Locals
        | MapName::StandIns
        | MapName::StandInCounts
        | MapName::Flows
        | MapName::Inbound => MapType::Hash,
        MapName::InHits => MapType::PerCpuHash,
        MapName::Listeners => MapType::SockHash,
        MapName::Cidrs4 | MapName::Cidrs6 | MapName::Ports | MapName::Groups => {
            MapType::ArrayOfMaps
        }
        MapName::OrigDst | MapName::DnsPending => MapType::SkStorage,
    }
}

/// Whether a line of the verifier's log tells how much it did, which the log ends with.
fn is_statistics(line: &str) -> bool {
    let beginnings = ["processed ", "stack depth ", "verification time "];
    beginnings
        .iter()
        .any(|beginning| line.starts_with(beginning))
}

/// Loads one program. The error contains only the last lines of the verifier's log.
fn verify(program: &mut Program) -> Result<()> {
    match load_without_context(program) {
        Err(ProgramError::LoadError {
            io_error,
            verifier_log,
        }) => {
            let log = verifier_log.to_string();
            let last: Vec<_> = log
                .lines()
                .rev()
                .filter(|line| !line.is_empty() && !is_statistics(line))
                .take(3)
                .collect();
            let last = last.into_iter().rev().collect::<Vec<_>>().join("; ");
            Err(io_error).context(format!("the verifier refused it: {last}"))
        }
        other => other.map_err(Into::into),
    }
}

/// Loads one program, with the loader's own error.
pub(super) fn load_without_context(program: &mut Program) -> Result<(), ProgramError> {
    if let Program::CgroupSockAddr(program) = program {
        program.load()
    } else if let Program::CgroupSockopt(program) = program {
        program.load()
    } else if let Program::SockOps(program) = program {
        program.load()
    } else if let Program::SkLookup(program) = program {
        program.load()
    } else {
        // This build does not attach programs of its type.
        Err(ProgramError::UnexpectedProgramType)
    }
}
