// SPDX-License-Identifier: MIT OR Apache-2.0
//! A pod made by hand: a cgroup folder, a network namespace, and a link to the world.

use std::{
    fs,
    net::{Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    cgroup::unified_mount,
    flows::{FlowListener, FlowListeners},
    guard::Guard,
    identity::{Identity, WorkerCgroup},
    netns,
    pod_cgroup::Cgroup,
    userns::{self, UserNamespace},
    worker::{Worker, WorkerSpec},
    world::World,
};

/// Makes the names of pods unique within one process.
static SERIAL: AtomicU32 = AtomicU32::new(0);

/// A cgroup with the children `app` and `istio-proxy`, and a network namespace that is linked to a [`World`].
///
/// Dropping it kills the processes in the pod, and removes the cgroup and the namespaces.
#[derive(Debug)]
pub struct Pod {
    name: String,
    cgroup: Cgroup,
    world: World,
    user_namespace: Option<UserNamespace>,
    // The last field, because dropping it removes everything that the fields above name.
    _guard: Guard,
}

impl Pod {
    /// The id outside that is id 0 inside a pod with a user namespace of its own.
    pub const FIRST_ID: u32 = userns::FIRST_ID;
    /// The pod's IPv4 address, on eth0.
    pub const V4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
    /// The pod's IPv6 address, on eth0.
    pub const V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 0, 2);

    /// Makes a pod. `name` is a few letters, which appear in the names of the cgroup and the namespaces.
    pub fn new(name: &str) -> Result<Self> {
        Self::make(name, false, None)
    }

    /// Makes a pod whose cgroup lies where a kubelet keeps the pod with this uid, below a cgroup root for this
    /// kubelet alone.
    pub fn in_kubepods(name: &str, uid: &str) -> Result<Self> {
        Self::make(name, false, Some(uid))
    }

    /// Makes a pod with a user namespace of its own, which owns the network namespace. Its id 0 is
    /// [`Self::FIRST_ID`] outside. [`Self::worker`] takes ids as they are inside.
    pub fn with_user_namespace(name: &str) -> Result<Self> {
        Self::make(name, true, None)
    }

    /// Makes a pod of a kubelet with a user namespace of its own, as `hostUsers: false` makes it.
    pub fn in_kubepods_with_user_namespace(name: &str, uid: &str) -> Result<Self> {
        Self::make(name, true, Some(uid))
    }

    fn make(name: &str, own_users: bool, uid: Option<&str>) -> Result<Self> {
        let name = unique_name(name)?;
        let root = unified_mount()?.join(&name);
        let path = uid.map_or_else(
            || root.clone(),
            |uid| root.join("kubepods/besteffort").join(format!("pod{uid}")),
        );
        let world = World {
            namespace: format!("{name}-world"),
        };
        // The guard is started first, so that everything made after it is removed.
        let guard = Guard::start(&[&root], &[&name, &world.namespace])?;
        let above = path.parent().unwrap_or(&root);
        fs::create_dir_all(above)
            .with_context(|| format!("make the cgroup {}", above.display()))?;
        let cgroup = Cgroup::guarded(path, None)?;
        let user_namespace = if own_users {
            let namespace = UserNamespace::new(&cgroup.child("pause")?)?;
            netns::attach(&name, namespace.pid())?;
            Some(namespace)
        } else {
            netns::add(&name)?;
            None
        };
        link_to_world(&name, &world.namespace)
            .with_context(|| format!("make the network of pod {name}"))?;
        Ok(Self {
            name,
            cgroup,
            world,
            user_namespace,
            _guard: guard,
        })
    }

    /// The unique name of the pod and of its network namespace, for `ip netns exec NAME ip addr`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The pod's cgroup folders.
    pub const fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// The file of the pod's network namespace.
    pub fn namespace(&self) -> PathBuf {
        netns::path(&self.name)
    }

    /// The world at the other end of the pod's link.
    pub const fn world(&self) -> &World {
        &self.world
    }

    /// Makes a second cgroup that shares this pod's network namespace, for two policies in one namespace. Workers
    /// enter it by [`WorkerCgroup::Folder`]. `name` must be unique within the pod.
    pub fn second_cgroup(&self, name: &str) -> Result<Cgroup> {
        Cgroup::create(&format!("{}-{name}", self.name))
    }

    /// The command line that runs a program with root's rights over the pod's network namespace: in that
    /// namespace, and in the user namespace that owns it.
    pub(crate) fn as_root(&self, argv: &[&str]) -> Vec<String> {
        let users = self.user_namespace.as_ref().map(|namespace| {
            [
                "nsenter".to_owned(),
                format!("--user={}", namespace.path().display()),
                // Root of the user namespace cannot write to the lock file of the machine.
                "env".to_owned(),
                "XTABLES_LOCKFILE=/dev/null".to_owned(),
            ]
        });
        let network = ["ip", "netns", "exec", self.name()].map(str::to_owned);
        let own = argv.iter().map(|&word| word.to_owned());
        network
            .into_iter()
            .chain(users.into_iter().flatten())
            .chain(own)
            .collect()
    }

    /// Starts a worker of this identity in the pod's network namespace.
    pub fn worker(&self, identity: &Identity) -> Result<Worker> {
        let outside = |id: u32| match (&self.user_namespace, &identity.cgroup) {
            (None, _) | (_, WorkerCgroup::Inherited) => id,
            (Some(_), WorkerCgroup::App | WorkerCgroup::Proxy | WorkerCgroup::Folder(_)) => {
                Self::FIRST_ID + id
            }
        };
        let identity = &Identity {
            uid: outside(identity.uid),
            gid: outside(identity.gid),
            groups: identity.groups.iter().map(|gid| outside(*gid)).collect(),
            ..identity.clone()
        };
        let cgroup = match &identity.cgroup {
            WorkerCgroup::App => Some(self.cgroup.app()),
            WorkerCgroup::Proxy => Some(self.cgroup.proxy()),
            WorkerCgroup::Folder(path) => Some(path.clone()),
            WorkerCgroup::Inherited => None,
        };
        Worker::spawn(&WorkerSpec::new(cgroup, &self.name, identity))
    }

    /// Starts a worker that holds these listeners and makes connections in the pod's namespace and cgroup: see
    /// [`Worker::flows`].
    pub fn flow_runner(&self, listeners: &[FlowListener]) -> Result<Worker> {
        let identity = Identity::root().cgroup(WorkerCgroup::App);
        let entry = WorkerSpec::new(Some(self.cgroup.app()), &self.name, &identity);
        Worker::spawn(&entry.listeners(FlowListeners {
            world: self.world.namespace().to_owned(),
            listeners: listeners.to_vec(),
        }))
    }
}

/// Makes a unique name: `redirect-NAME-PID-N`.
pub(crate) fn unique_name(name: &str) -> Result<String> {
    if name.is_empty()
        || !name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    {
        bail!("make pod {name:?}: a name is letters, digits, - and _");
    }
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    Ok(format!("redirect-{name}-{}-{serial}", std::process::id()))
}

/// Makes the world's namespace and links the pod to it.
///
/// `nodad`, because an address that is still checked for duplicates cannot be dialled from. `::6` on `lo` is
/// Istio's IPv6 counterpart of 127.0.0.6.
pub(crate) fn link_to_world(pod: &str, world: &str) -> Result<()> {
    netns::add(world)?;
    netns::batch(
        pod,
        &format!(
            "link add eth0 type veth peer name eth0 netns {world}\n\
             addr add {}/24 dev eth0\n\
             addr add {}/64 dev eth0 nodad\n\
             addr add ::6/128 dev lo nodad\n\
             link set lo up\n\
             link set eth0 up\n",
            Pod::V4,
            Pod::V6
        ),
    )?;
    netns::batch(
        world,
        &format!(
            "addr add {}/24 dev eth0\n\
             addr add {}/64 dev eth0 nodad\n\
             link set lo up\n\
             link set eth0 up\n",
            World::V4,
            World::V6
        ),
    )?;
    netns::batch(
        pod,
        &format!(
            "route add default via {}\nroute add ::/0 via {}\n",
            World::V4,
            World::V6
        ),
    )
}
