//! Just enough ELF to know what a program wants loaded: interpreter, needed libraries, run paths.
//!
//! Every offset comes from the file, so every access is checked; a file that lies is an error, not a panic.

/// What the dynamic loader would look at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Elf {
    pub(super) machine: u16,
    pub(super) is_64: bool,
    pub(super) interpreter: Option<String>,
    pub(super) needed: Vec<String>,
    pub(super) rpath: Vec<String>,
    pub(super) runpath: Vec<String>,
    /// `DF_1_NODEFLIB`: the default directories are not searched.
    pub(super) no_default_libraries: bool,
}

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;
const DT_RPATH: u64 = 15;
const DT_RUNPATH: u64 = 29;
const DT_FLAGS_1: u64 = 0x6fff_fffb;
const DF_1_NODEFLIB: u64 = 0x800;

pub(super) const MAGIC: &[u8; 4] = b"\x7fELF";

struct Segment {
    kind: u32,
    offset: u64,
    address: u64,
    size: u64,
}

struct View<'a> {
    bytes: &'a [u8],
    is_64: bool,
    little: bool,
}

impl Elf {
    /// Parses a whole file. The error says what is wrong with it.
    pub(super) fn parse(bytes: &[u8]) -> Result<Elf, &'static str> {
        if !bytes.starts_with(MAGIC) {
            return Err("not an ELF file");
        }
        let view = View {
            bytes,
            is_64: match bytes.get(4) {
                Some(1) => false,
                Some(2) => true,
                _ => return Err("ELF of an unknown class"),
            },
            little: match bytes.get(5) {
                Some(1) => true,
                Some(2) => false,
                _ => return Err("ELF of an unknown byte order"),
            },
        };
        view.elf().ok_or("damaged ELF file")
    }
}

impl View<'_> {
    fn elf(&self) -> Option<Elf> {
        let machine = u16::try_from(self.number(18, 2)?).ok()?;
        let segments = self.segments()?;
        let mut elf = Elf {
            machine,
            is_64: self.is_64,
            ..Elf::default()
        };
        if let Some(interpreter) = segments.iter().find(|segment| segment.kind == PT_INTERP) {
            elf.interpreter = Some(self.string(interpreter.offset)?);
        }
        let Some(dynamic) = segments.iter().find(|segment| segment.kind == PT_DYNAMIC) else {
            return Some(elf);
        };
        let entries = self.dynamic(dynamic)?;
        let value = |tag| entries.iter().find(|(found, _)| *found == tag).map(|(_, value)| *value);
        let Some(strings) = value(DT_STRTAB) else {
            return Some(elf);
        };
        let strings = file_offset(&segments, strings)?;
        for (tag, value) in &entries {
            let text = || self.string(strings.checked_add(*value)?);
            match *tag {
                DT_NEEDED => elf.needed.push(text()?),
                DT_RPATH => elf.rpath = split_paths(&text()?),
                DT_RUNPATH => elf.runpath = split_paths(&text()?),
                DT_FLAGS_1 => elf.no_default_libraries = value & DF_1_NODEFLIB != 0,
                _ => {}
            }
        }
        Some(elf)
    }

    fn segments(&self) -> Option<Vec<Segment>> {
        let (table, entry_size, count) = if self.is_64 {
            (self.number(32, 8)?, self.number(54, 2)?, self.number(56, 2)?)
        } else {
            (self.number(28, 4)?, self.number(42, 2)?, self.number(44, 2)?)
        };
        (0..count)
            .map(|index| {
                let at = table.checked_add(index.checked_mul(entry_size)?)?;
                let field = |narrow: u64, wide: u64| {
                    let (offset, width) = if self.is_64 { (wide, 8) } else { (narrow, 4) };
                    self.number(at.checked_add(offset)?, width)
                };
                Some(Segment {
                    kind: u32::try_from(self.number(at, 4)?).ok()?,
                    offset: field(4, 8)?,
                    address: field(8, 16)?,
                    size: field(16, 32)?,
                })
            })
            .collect()
    }

    fn dynamic(&self, segment: &Segment) -> Option<Vec<(u64, u64)>> {
        let width: u8 = if self.is_64 { 8 } else { 4 };
        let mut entries = Vec::new();
        for index in 0..segment.size / (2 * u64::from(width)) {
            let at = segment.offset.checked_add(index * 2 * u64::from(width))?;
            let tag = self.number(at, width)?;
            if tag == 0 {
                break;
            }
            entries.push((tag, self.number(at.checked_add(width.into())?, width)?));
        }
        Some(entries)
    }

    fn number(&self, at: u64, width: u8) -> Option<u64> {
        let at = usize::try_from(at).ok()?;
        let bytes = self.bytes.get(at..at.checked_add(width.into())?)?;
        let fold = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
        Some(if self.little {
            bytes.iter().rev().fold(0, fold)
        } else {
            bytes.iter().fold(0, fold)
        })
    }

    fn string(&self, at: u64) -> Option<String> {
        let bytes = self.bytes.get(usize::try_from(at).ok()?..)?;
        let end = bytes.iter().take(4096).position(|byte| *byte == 0)?;
        String::from_utf8(bytes[..end].to_vec()).ok()
    }
}

fn file_offset(segments: &[Segment], address: u64) -> Option<u64> {
    segments
        .iter()
        .filter(|segment| segment.kind == PT_LOAD)
        .find_map(|segment| {
            let inside = address.checked_sub(segment.address)?;
            if inside < segment.size {
                segment.offset.checked_add(inside)
            } else {
                None
            }
        })
}

fn split_paths(text: &str) -> Vec<String> {
    text.split(':')
        .filter(|path| !path.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_test_binary_needs_libc() {
        let elf = Elf::parse(&std::fs::read(std::env::current_exe().unwrap()).unwrap()).unwrap();
        assert!(
            elf.interpreter.as_deref().is_some_and(|path| path.starts_with('/')),
            "{elf:?}"
        );
        assert!(elf.needed.iter().any(|library| library.starts_with("libc.")), "{elf:?}");
    }

    #[test]
    fn damaged_files_are_errors() {
        use proptest::prelude::*;
        let good = std::fs::read("/bin/true").unwrap_or_else(|_| MAGIC.to_vec());
        proptest!(|(at in 0..512usize, byte in any::<u8>(), cut in 0..2000usize)| {
            let mut bytes = good.clone();
            if let Some(target) = bytes.get_mut(at) {
                *target = byte;
            }
            let _ = Elf::parse(&bytes);
            bytes.truncate(cut);
            let _ = Elf::parse(&bytes);
        });
    }
}
