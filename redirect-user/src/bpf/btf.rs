//! A small reader of the kernel's BTF, which finds the byte offset of a member of a structure.
//!
//! aya's own BTF reader is made for relocations and does not expose its types. Format:
//! Documentation/bpf/btf.rst of the kernel.

use std::{collections::HashMap, fs, path::Path};

use redirect_common::abi::OwnerOffsets;
use thiserror::Error;

/// The file with the BTF of the running kernel.
pub const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// The reason why an offset is not available.
#[derive(Debug, Error)]
pub enum BtfError {
    /// There is no BTF, or it cannot be read.
    #[error("read \"{path}\": the kernel was built without CONFIG_DEBUG_INFO_BTF?")]
    Missing {
        /// The path of the file.
        path: String,
        /// The error of reading it.
        source: std::io::Error,
    },
    /// The data is not in a format that this reader knows.
    #[error("parse BTF: {0}")]
    Malformed(&'static str),
    /// The structure or the member does not exist in this kernel.
    #[error("find `{member}` in `struct {structure}`: not in this kernel's BTF")]
    NoMember {
        /// The structure.
        structure: &'static str,
        /// The member.
        member: &'static str,
    },
}

/// Reads the offsets that the programs need to find a socket's owner.
pub fn owner_offsets() -> Result<OwnerOffsets, BtfError> {
    let path = Path::new(KERNEL_BTF);
    let data = fs::read(path).map_err(|source| BtfError::Missing {
        path: KERNEL_BTF.to_owned(),
        source,
    })?;
    let btf = Btf::parse(&data)?;
    Ok(OwnerOffsets {
        sk_socket: btf.offset("sock", "sk_socket")?,
        file: btf.offset("socket", "file")?,
        f_cred: btf.offset("file", "f_cred")?,
        fsuid: btf.offset("cred", "fsuid")?,
        fsgid: btf.offset("cred", "fsgid")?,
    })
}

const MAGIC: u32 = 0xeb9f;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;

/// A structure or union. Its members are read when they are looked up.
struct Composite {
    /// The position of the first member in the data.
    members: usize,
    count: usize,
    /// Whether the upper byte of a member's offset is a bit-field size.
    bitfields: bool,
}

struct Btf<'data> {
    data: &'data [u8],
    strings: usize,
    /// Structures and unions by type id.
    composites: HashMap<u32, Composite>,
    /// Type ids of structures by name.
    by_name: HashMap<&'data [u8], u32>,
}

impl<'data> Btf<'data> {
    fn parse(data: &'data [u8]) -> Result<Self, BtfError> {
        let header = Words { data };
        let magic = header.at(0)? & 0xffff;
        if magic != MAGIC {
            return Err(BtfError::Malformed(
                "no BTF magic in this machine's byte order",
            ));
        }
        let size = |word: usize| header.at(word).map(|value| value as usize);
        let header_len = size(4)?;
        let (types, types_len) = (header_len.saturating_add(size(8)?), size(12)?);
        let strings = header_len.saturating_add(size(16)?);
        let mut btf = Self {
            data,
            strings,
            composites: HashMap::new(),
            by_name: HashMap::new(),
        };

        let (mut at, end, mut id) = (types, types.saturating_add(types_len), 1_u32);
        while at < end {
            let (name, info) = (header.at(at)?, header.at(at.saturating_add(4))?);
            let (kind, count) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
            let members = at.saturating_add(12);
            if kind == KIND_STRUCT || kind == KIND_UNION {
                let bitfields = info >> 31 != 0;
                btf.composites.insert(
                    id,
                    Composite {
                        members,
                        count,
                        bitfields,
                    },
                );
                if kind == KIND_STRUCT {
                    btf.by_name.entry(btf.string(name)?).or_insert(id);
                }
            }
            at = members.saturating_add(extra(kind, count)?);
            id = id.saturating_add(1);
        }
        Ok(btf)
    }

    fn string(&self, offset: u32) -> Result<&'data [u8], BtfError> {
        self.data
            .get(self.strings.saturating_add(offset as usize)..)
            .and_then(|rest| rest.split(|byte| *byte == 0).next())
            .ok_or(BtfError::Malformed("a name lies outside the data"))
    }

    /// The byte offset of a member, including the members of anonymous structures and unions.
    fn offset(&self, structure: &'static str, member: &'static str) -> Result<u32, BtfError> {
        let bits = match self.by_name.get(structure.as_bytes()) {
            Some(id) => self.member(*id, member.as_bytes())?,
            None => None,
        };
        bits.map(|bits| bits >> 3)
            .ok_or(BtfError::NoMember { structure, member })
    }

    fn member(&self, id: u32, wanted: &[u8]) -> Result<Option<u32>, BtfError> {
        let Some(composite) = self.composites.get(&id) else {
            return Ok(None);
        };
        let words = Words { data: self.data };
        for index in 0..composite.count {
            let at = composite.members.saturating_add(index.saturating_mul(12));
            let name = self.string(words.at(at)?)?;
            let offset = words.at(at.saturating_add(8))?;
            let offset = if composite.bitfields {
                offset & 0x00ff_ffff
            } else {
                offset
            };
            if name == wanted {
                return Ok(Some(offset));
            }
            if name.is_empty()
                && let Some(inner) = self.member(words.at(at.saturating_add(4))?, wanted)?
            {
                return Ok(Some(offset.saturating_add(inner)));
            }
        }
        Ok(None)
    }
}

/// The number of bytes that follow the twelve bytes of every type.
const fn extra(kind: u32, count: usize) -> Result<usize, BtfError> {
    Ok(match kind {
        // Int, var, declaration tag.
        1 | 14 | 17 => 4,
        // Array.
        3 => 12,
        // Struct, union, data section, 64-bit enum.
        KIND_STRUCT | KIND_UNION | 15 | 19 => count.saturating_mul(12),
        // Enum, function prototype.
        6 | 13 => count.saturating_mul(8),
        // Pointer, forward, typedef, volatile, const, restrict, function, float, type tag.
        2 | 7..=12 | 16 | 18 => 0,
        _ => {
            return Err(BtfError::Malformed(
                "a kind of type that is newer than this reader",
            ));
        }
    })
}

/// Data as words in the machine's byte order.
struct Words<'data> {
    data: &'data [u8],
}

impl Words<'_> {
    #[expect(
        clippy::host_endian_bytes,
        reason = "the kernel's BTF is in the machine's byte order"
    )]
    fn at(&self, offset: usize) -> Result<u32, BtfError> {
        self.data
            .get(offset..)
            .and_then(|rest| rest.first_chunk())
            .map(|bytes| u32::from_ne_bytes(*bytes))
            .ok_or(BtfError::Malformed("it ends too early"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_has_every_member() {
        let offsets = owner_offsets().expect("kernel BTF");
        // `fsuid` and `fsgid` are neighbours in every known kernel.
        assert_eq!(offsets.fsgid, offsets.fsuid + 4);
        assert!(
            offsets.sk_socket > 0 && offsets.file > 0 && offsets.f_cred > 0,
            "{offsets:?}"
        );
    }

    #[test]
    fn malformed_data_is_an_error_and_no_panic() {
        assert!(matches!(Btf::parse(b""), Err(BtfError::Malformed(_))));
        assert!(matches!(
            Btf::parse(&[0x9f, 0xeb, 1, 0, 255, 255, 255, 255]),
            Err(BtfError::Malformed(_))
        ));
        assert!(matches!(Btf::parse(&[7; 64]), Err(BtfError::Malformed(_))));
    }
}
