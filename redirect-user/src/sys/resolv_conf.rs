//! The resolvers that `/etc/resolv.conf` of a process names.

use std::{
    fs::File,
    io::Read as _,
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};

/// The size limit of the file; a longer one is refused.
const LONGEST: u64 = 1 << 20;

/// The resolvers of a process, in order.
pub fn resolvers_of(pid: u32) -> Result<Vec<IpAddr>> {
    read(&PathBuf::from(format!("/proc/{pid}/root")))
}

/// The resolvers of the calling process, in order.
pub fn own_resolvers() -> Result<Vec<IpAddr>> {
    read(Path::new("/"))
}

/// Reads the file below a root directory. Symbolic links in the path are followed below that root
/// only, because the file system belongs to another process (`RESOLVE_IN_ROOT`, since Linux 5.6).
fn read(root: &Path) -> Result<Vec<IpAddr>> {
    let reading = || format!("read \"etc/resolv.conf\" in \"{}\"", root.display());
    let folder = openat(CWD, root, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    let file = folder.and_then(|folder| {
        // Opening something that is not a regular file must not block.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let path = "etc/resolv.conf";
        openat2(folder, path, flags, Mode::empty(), ResolveFlags::IN_ROOT)
    });
    let file = File::from(file.with_context(reading)?);
    if !file.metadata().with_context(reading)?.is_file() {
        bail!("{}: it is not a regular file", reading());
    }
    let mut bytes = Vec::new();
    let read = file.take(LONGEST).read_to_end(&mut bytes);
    if u64::try_from(read.with_context(reading)?)? == LONGEST {
        bail!("{}: it is longer than a mebibyte", reading());
    }
    Ok(parse(&String::from_utf8_lossy(&bytes)))
}

/// The addresses of the `nameserver` lines, as Istio reads them (`ClientConfigFromReader` of the Go
/// package `miekg/dns`, then `IPsSplitV4V6`). The word must begin its line; text that is not an
/// address, or has a zone, is skipped.
fn parse(text: &str) -> Vec<IpAddr> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            (words.next()? == "nameserver").then(|| words.next()?.parse().ok())?
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_nameserver_lines_count() {
        let text = "# nameserver 9.9.9.1\n\
                    search svc.cluster.local\n\
                    nameserver 10.96.0.10\n\
                    \t nameserver\tfd00::a # ours\r\n\
                    nameserver\n\
                    nameserver dns.example\n\
                    nameserver fe80::1%eth0\n\
                    nameserver 010.0.0.1\n\
                    nameserver10.0.0.2\n\
                    Nameserver 10.0.0.3\n\
                    options ndots:5 nameserver 10.0.0.4\n\
                    nameserver 10.96.0.10 10.0.0.5";
        let found: Vec<_> = parse(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["10.96.0.10", "fd00::a", "10.96.0.10"]);
        assert_eq!(parse(""), Vec::<IpAddr>::new());
    }
}
