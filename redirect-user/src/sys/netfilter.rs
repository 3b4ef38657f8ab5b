//! The search for a netfilter chain by name in the caller's network namespace, with either backend.
//! The kernel is queried: no program is run, and no rule is changed.
#![expect(
    unsafe_code,
    reason = "the socket options of iptables have no safe wrapper"
)]

use std::{
    fs, io,
    net::UdpSocket,
    os::fd::{AsRawFd as _, OwnedFd},
};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

/// Whether iptables or nftables has a chain `name`, in any table of nftables or the nat tables of
/// iptables. Needs `CAP_NET_ADMIN`.
pub fn has_chain(name: &str) -> io::Result<bool> {
    let mut wanted = name.as_bytes().to_vec();
    // Both backends end names with a zero byte.
    wanted.push(0);
    let contains = |data: &[u8]| data.windows(wanted.len()).any(|window| window == wanted);
    Ok(contains(&nftables()?) || contains(&iptables(&IPV4)?) || contains(&iptables(&IPV6)?))
}

/// `NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETCHAIN` (`include/uapi/linux/netfilter/nf_tables.h`).
const GET_CHAIN: u16 = 10 << 8 | 4;
/// `NLM_F_REQUEST | NLM_F_DUMP` (include/uapi/linux/netlink.h).
const REQUEST_DUMP: u16 = 0x301;
/// `NLMSG_ERROR`; the negative error number is the first word after the header.
const ERROR: u16 = 2;
/// `NLMSG_DONE`.
const DONE: u16 = 3;
/// A buffer size that no answer of the kernel exceeds.
const ANSWER: usize = 1 << 16;

/// The listing of all nftables chains, as the kernel sends it.
#[expect(
    clippy::host_endian_bytes,
    reason = "netlink is in the machine's byte order"
)]
fn nftables() -> io::Result<Vec<u8>> {
    let flags = SocketFlags::CLOEXEC;
    let socket: OwnedFd = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        flags,
        Some(netlink::NETFILTER),
    )?;
    // struct nlmsghdr {length, type, flags, sequence, port}, struct nfgenmsg {any family, 0, 0}.
    let mut request = Vec::new();
    request.extend(20_u32.to_ne_bytes());
    request.extend(GET_CHAIN.to_ne_bytes());
    request.extend(REQUEST_DUMP.to_ne_bytes());
    request.extend([0; 12]);
    send(&socket, &request, SendFlags::empty())?;
    let mut listing = Vec::new();
    let mut answer = vec![0; ANSWER];
    loop {
        let (length, _) = recv(&socket, &mut answer[..], RecvFlags::empty())?;
        let answer = answer.get(..length).unwrap_or_default();
        listing.extend_from_slice(answer);
        // The last message of a dump comes alone or after others, so every header is checked.
        let mut rest = answer;
        while let (Some(size), Some(kind)) = (rest.first_chunk(), rest.get(4..6)) {
            if kind == ERROR.to_ne_bytes() {
                let code = rest.get(16..).and_then(|rest| rest.first_chunk());
                let code = code.map_or(0, |code| i32::from_ne_bytes(*code));
                let error = io::Error::from_raw_os_error(code.saturating_neg());
                // Any other error means that this kernel has no nftables.
                if error.kind() == io::ErrorKind::PermissionDenied {
                    return Err(error);
                }
                return Ok(Vec::new());
            }
            let size = u32::from_ne_bytes(*size) as usize;
            if kind == DONE.to_ne_bytes() || size == 0 {
                return Ok(listing);
            }
            rest = rest.get(size.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

/// One family of iptables.
struct Family {
    /// The file with the names of the existing tables. Reading a table that does not exist would
    /// create it.
    tables: &'static str,
    socket: &'static str,
    level: libc::c_int,
}

const IPV4: Family = Family {
    tables: "/proc/net/ip_tables_names",
    socket: "0.0.0.0:0",
    level: libc::SOL_IP,
};
const IPV6: Family = Family {
    tables: "/proc/net/ip6_tables_names",
    socket: "[::]:0",
    level: libc::SOL_IPV6,
};

/// `IPT_SO_GET_INFO` and `IPT_SO_GET_ENTRIES`, the same numbers for IPv6
/// (`include/uapi/linux/netfilter_ipv4/ip_tables.h`).
const GET_INFO: libc::c_int = 64;
const GET_ENTRIES: libc::c_int = 65;
/// The size of `struct ipt_getinfo`, and the position of its field `size`.
const INFO: usize = 84;
const INFO_SIZE: std::ops::Range<usize> = 80..84;
/// The size of `struct ipt_get_entries` without entries, and the position of its field `size`.
const ENTRIES: usize = 40;
const ENTRIES_SIZE: std::ops::Range<usize> = 32..36;

/// The nat table in the kernel's binary form; empty if there is none.
fn iptables(family: &Family) -> io::Result<Vec<u8>> {
    let tables = match fs::read_to_string(family.tables) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        tables => tables?,
    };
    if !tables.lines().any(|table| table == "nat") {
        return Ok(Vec::new());
    }
    let socket = UdpSocket::bind(family.socket)?;
    let mut info = vec![0; INFO];
    info.splice(..3, *b"nat");
    read_option(&socket, family, GET_INFO, &mut info)?;
    let size = info.get(INFO_SIZE).unwrap_or_default();
    let mut entries = vec![0; ENTRIES];
    entries.splice(..3, *b"nat");
    entries.splice(ENTRIES_SIZE, size.iter().copied());
    let size: [u8; 4] = size.try_into().map_err(io::Error::other)?;
    #[expect(
        clippy::host_endian_bytes,
        reason = "socket options are in the machine's byte order"
    )]
    let size = u32::from_ne_bytes(size) as usize;
    entries.resize(ENTRIES.saturating_add(size), 0);
    read_option(&socket, family, GET_ENTRIES, &mut entries)?;
    Ok(entries)
}

fn read_option(
    socket: &UdpSocket,
    family: &Family,
    option: libc::c_int,
    data: &mut [u8],
) -> io::Result<()> {
    let mut length = libc::socklen_t::try_from(data.len()).map_err(io::Error::other)?;
    // SAFETY: the kernel reads and writes no more than `length` bytes at the pointer.
    let status = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            family.level,
            option,
            data.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if status == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
