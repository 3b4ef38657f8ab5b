//! A small reader of the kernel's BTF, which finds the byte offset of a member of a structure.
//!
//! aya's own BTF reader is made for relocations and does not expose its types. Format:
//! Documentation/bpf/btf.rst of the kernel.

use std::{collections::HashMap, fs, path::Path};

use redirect_common::abi::{NetnsOffsets, OwnerOffsets};
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
    let data = kernel_data()?;
    let btf = Btf::parse(&data)?;
    Ok(OwnerOffsets {
        sk_socket: btf.offset("sock", "sk_socket")?,
        file: btf.offset("socket", "file")?,
        f_cred: btf.offset("file", "f_cred")?,
        fsuid: btf.offset("cred", "fsuid")?,
        fsgid: btf.offset("cred", "fsgid")?,
    })
}

/// Reads the offsets that the programs need to find the inode of a socket's network namespace.
pub fn netns_offsets() -> Result<NetnsOffsets, BtfError> {
    let data = kernel_data()?;
    let btf = Btf::parse(&data)?;
    let within = |outer: u32, inner: u32| outer.saturating_add(inner);
    Ok(NetnsOffsets {
        // The structure of `skc_net` has the pointer as its only member.
        net: within(
            btf.offset("sock", "__sk_common")?,
            btf.offset("sock_common", "skc_net")?,
        ),
        inode: within(btf.offset("net", "ns")?, btf.offset("ns_common", "inum")?),
    })
}

/// The BTF of the running kernel.
fn kernel_data() -> Result<Vec<u8>, BtfError> {
    fs::read(Path::new(KERNEL_BTF)).map_err(|source| BtfError::Missing {
        path: KERNEL_BTF.to_owned(),
        source,
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
    /// Type ids of structures by name. Structures of two source files can have the same name.
    by_name: HashMap<&'data [u8], Vec<u32>>,
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
        let layout = Layout::parse(&header, header_len)?;
        let mut btf = Self {
            data,
            strings,
            composites: HashMap::new(),
            by_name: HashMap::new(),
        };

        let (mut at, end, mut id) = (types, types.saturating_add(types_len), 1_u32);
        while at < end {
            let (name, info) = (header.at(at)?, header.at(at.saturating_add(4))?);
            // Linux 7.1 widened both fields into bits that were zero before.
            let (kind, count) = (info >> 24 & 0x7f, (info & 0x00ff_ffff) as usize);
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
                    let name = btf.string(name)?;
                    btf.by_name.entry(name).or_default().push(id);
                }
            }
            let Some(extra) = layout.extra(kind, count)? else {
                // The rest cannot be read. A structure in it is then missing by name.
                break;
            };
            at = members.saturating_add(extra);
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
        let ids = self.by_name.get(structure.as_bytes());
        for id in ids.into_iter().flatten() {
            if let Some(bits) = self.member(*id, member.as_bytes())? {
                return Ok(bits >> 3);
            }
        }
        Err(BtfError::NoMember { structure, member })
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

/// The sizes of the kinds of types. Since Linux 7.1, BTF has a section that describes its kinds, so
/// that a reader can skip those that it does not know.
struct Layout<'data> {
    words: Words<'data>,
    /// The position of the description of kind 0, and the number of described kinds.
    section: Option<(usize, u32)>,
}

impl<'data> Layout<'data> {
    fn parse(header: &Words<'data>, header_len: usize) -> Result<Self, BtfError> {
        // The header is longer if it names the section.
        let section = if header_len >= 32 {
            let (start, len) = (header.at(24)? as usize, header.at(28)?);
            Some((header_len.saturating_add(start), len >> 2))
        } else {
            None
        };
        Ok(Self {
            words: Words { data: header.data },
            section,
        })
    }

    /// The number of bytes that follow the twelve bytes of a type with `count` elements. `None` if
    /// the kind is newer than this reader and the BTF does not describe it.
    fn extra(&self, kind: u32, count: usize) -> Result<Option<usize>, BtfError> {
        Ok(Some(match kind {
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
                let Some((start, kinds)) = self.section else {
                    return Ok(None);
                };
                if kind >= kinds {
                    return Ok(None);
                }
                // A byte each: the size after every type, and the size of an element.
                let described = self.words.at(start.saturating_add(kind as usize * 4))?;
                let [info, element, _, _] = bytes(described);
                usize::from(info).saturating_add(count.saturating_mul(element.into()))
            }
        }))
    }
}

#[expect(
    clippy::host_endian_bytes,
    reason = "the kernel's BTF is in the machine's byte order"
)]
const fn bytes(word: u32) -> [u8; 4] {
    word.to_ne_bytes()
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
    fn the_inode_of_a_network_namespace_is_found_in_this_kernel() {
        let offsets = netns_offsets().expect("kernel BTF");
        assert!(offsets.net > 0 && offsets.inode > 0, "{offsets:?}");
    }

    /// Types of BTF: a name as the offset in `STRINGS`, the other words of the type, and its rest.
    type Types<'types> = &'types [&'types [u32]];

    const STRINGS: &[u8] = b"\0file\0f_cred\0other\0";
    const FILE: u32 = 1;
    const F_CRED: u32 = 6;
    const OTHER: u32 = 13;
    /// A structure with one member.
    const ONE_MEMBER: u32 = KIND_STRUCT << 24 | 1;
    /// A kind that no kernel has, with two elements.
    const UNKNOWN: u32 = 100 << 24 | 2;

    /// BTF of these types, with a description of the kinds if `layout` is not empty.
    fn encoded(types: Types<'_>, layout: &[[u8; 4]]) -> Vec<u8> {
        let size = |len: usize| u32::try_from(len).expect("small");
        let types: Vec<u32> = types.concat();
        let (types_len, layout_len) = (size(types.len() * 4), size(layout.len() * 4));
        let layout_start = types_len;
        let strings = layout_start + layout_len;
        let mut header = vec![MAGIC | 1 << 16, if layout.is_empty() { 24 } else { 32 }];
        header.extend([0, types_len, strings, size(STRINGS.len())]);
        if !layout.is_empty() {
            header.extend([layout_start, layout_len]);
        }
        let words = header.into_iter().chain(types);
        let words = words.flat_map(u32::to_ne_bytes);
        words
            .chain(layout.iter().copied().flatten())
            .chain(STRINGS.iter().copied())
            .collect()
    }

    #[test]
    fn a_second_structure_of_a_name_is_tried() {
        let types: Types<'_> = &[
            &[FILE, ONE_MEMBER, 8, OTHER, 0, 0],
            &[FILE, ONE_MEMBER, 8, F_CRED, 0, 24 * 8],
        ];
        let data = encoded(types, &[]);
        let btf = Btf::parse(&data).expect("BTF");
        assert_eq!(btf.offset("file", "f_cred").expect("the second"), 24);
        assert_eq!(btf.offset("file", "other").expect("the first"), 0);
    }

    #[test]
    fn an_unknown_kind_is_skipped_if_the_data_describes_it() {
        // The unknown type has one word of its own and two elements of a word each.
        let types: Types<'_> = &[
            &[OTHER, UNKNOWN, 0, 7, 7, 7],
            &[FILE, ONE_MEMBER, 8, F_CRED, 0, 8 * 8],
        ];
        let mut layout = vec![[0; 4]; 101];
        layout[100] = [4, 4, 0, 0];
        let data = encoded(types, &layout);
        let offset = Btf::parse(&data).expect("BTF").offset("file", "f_cred");
        assert_eq!(offset.expect("after the unknown kind"), 8);
    }

    #[test]
    fn types_before_an_unknown_kind_are_found() {
        let types: Types<'_> = &[
            &[FILE, ONE_MEMBER, 8, F_CRED, 0, 16 * 8],
            &[OTHER, UNKNOWN, 0, 7, 7, 7],
        ];
        let data = encoded(types, &[]);
        let btf = Btf::parse(&data).expect("BTF");
        assert_eq!(btf.offset("file", "f_cred").expect("before"), 16);
        let missing = btf.offset("file", "other").expect_err("not in it");
        assert!(matches!(missing, BtfError::NoMember { .. }), "{missing}");
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
