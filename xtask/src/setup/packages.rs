//! The system's programs that a purpose needs: a table, and the search for each.

use std::{env, fmt::Write as _, path::Path};

use anyhow::{Result, bail};

use super::{
    debian::{self, is_debian},
    part::Part,
    purpose::Purpose,
};

/// The packages that one purpose needs.
pub(crate) struct Packages(Vec<&'static Package>);

struct Package {
    name: &'static str,
    /// A program of the package, which is searched for on systems without dpkg.
    program: &'static str,
    /// The purposes that need the package, besides `Purpose::All`. An empty list stands for every purpose.
    purposes: &'static [Purpose],
}

const PACKAGES: [Package; 14] = {
    use Purpose::{Demo, DemoEnvoy, Kernels, Test};
    [
        Package {
            name: "build-essential",
            program: "cc",
            purposes: &[],
        },
        Package {
            name: "iproute2",
            program: "ip",
            purposes: &[Demo, DemoEnvoy, Kernels, Test],
        },
        Package {
            name: "iptables",
            program: "iptables",
            purposes: &[Kernels, Test],
        },
        Package {
            name: "haproxy",
            program: "haproxy",
            purposes: &[Kernels, Test],
        },
        // Its library changes the clock of one program.
        Package {
            name: "faketime",
            program: "faketime",
            purposes: &[Test],
        },
        // Interrupts a command with signals.
        Package {
            name: "strace",
            program: "strace",
            purposes: &[Test],
        },
        // The tour of the documentation asks a server in Python by curl.
        Package {
            name: "curl",
            program: "curl",
            purposes: &[Test],
        },
        Package {
            name: "python3",
            program: "python3",
            purposes: &[Test],
        },
        // The container runtime of the kit's node. Another containerd will do: Docker's package excludes Debian's.
        Package {
            name: "containerd",
            program: "containerd",
            purposes: &[Test],
        },
        Package {
            name: "runc",
            program: "runc",
            purposes: &[Test],
        },
        Package {
            name: "containernetworking-plugins",
            program: "ptp",
            purposes: &[Test],
        },
        // Also has setpriv, which takes capabilities away.
        Package {
            name: "util-linux",
            program: "unshare",
            purposes: &[Kernels, Test],
        },
        // The small programs of a machine with another kernel.
        Package {
            name: "busybox-static",
            program: "busybox",
            purposes: &[Kernels],
        },
        // Finds and loads the modules of another kernel.
        Package {
            name: "kmod",
            program: "modprobe",
            purposes: &[Kernels],
        },
    ]
};

impl Packages {
    /// The rows of the table for this purpose.
    pub(crate) fn for_purpose(purpose: Purpose) -> Self {
        let needs = |package: &&Package| {
            purpose == Purpose::All
                || package.purposes.is_empty()
                || package.purposes.contains(&purpose)
                || purpose.is_test() && package.purposes.contains(&Purpose::Test)
        };
        Self(PACKAGES.iter().filter(needs).collect())
    }

    fn names(&self) -> Vec<&'static str> {
        self.0.iter().map(|package| package.name).collect()
    }

    /// The packages that are neither installed nor replaced by another source of their program. A build needs Debian's
    /// packages: headers are not programs.
    fn missing(&self) -> Result<Vec<&'static str>> {
        let missing = debian::missing(&self.names())?;
        let is_needed = |package: &&&Package| {
            missing.contains(&package.name)
                && (package.purposes.is_empty() || !is_program(package.program))
        };
        let needed = self.0.iter().filter(is_needed);
        Ok(needed.map(|package| package.name).collect())
    }
}

impl Part for Packages {
    fn name(&self) -> &'static str {
        "packages"
    }

    fn found(&self) -> Result<Option<String>> {
        let complete = if is_debian() {
            self.missing()?.is_empty()
        } else {
            self.0.iter().all(|package| is_program(package.program))
        };
        Ok(complete.then(|| self.names().join(" ")))
    }

    fn install(&self) -> Result<String> {
        if is_debian() {
            debian::install(&self.missing()?)?;
            return Ok(self.names().join(" "));
        }
        let mut text = String::from(
            "install programs: this is not Debian: install them with the means of this system:",
        );
        for package in self.0.iter().filter(|package| !is_program(package.program)) {
            write!(
                text,
                "\n    {} (Debian has it in {})",
                package.program, package.name
            )?;
        }
        bail!(text)
    }
}

/// Whether a program is in PATH, or in a folder of administrators' programs, which PATH may lack.
fn is_program(name: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let in_path = env::split_paths(&path).any(|dir| dir.join(name).is_file());
    // The last two folders have the plugins of container networks.
    in_path
        || ["/usr/sbin", "/sbin", "/usr/lib/cni", "/opt/cni/bin"]
            .iter()
            .any(|dir| Path::new(dir).join(name).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tests_need_test_programs() {
        assert_eq!(
            Packages::for_purpose(Purpose::Build).names(),
            ["build-essential"]
        );
        assert_eq!(
            Packages::for_purpose(Purpose::Demo).names(),
            ["build-essential", "iproute2"]
        );
        assert!(
            Packages::for_purpose(Purpose::Test)
                .names()
                .contains(&"haproxy")
        );
        assert_eq!(
            Packages::for_purpose(Purpose::All).names().len(),
            PACKAGES.len()
        );
    }

    #[test]
    fn a_program_is_searched_for_in_path() {
        assert!(is_program("sh"));
        assert!(!is_program("no-such-program-here"));
    }
}
