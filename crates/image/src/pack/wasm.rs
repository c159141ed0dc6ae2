//! What a `.wasm` file is, from its preamble (WebAssembly core and component-model binary formats).
//!
//! Only packing looks at the bytes: it is what *writes* the declaration that everybody else relies on.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WasmKind {
    /// A core module; it speaks WASI preview 1.
    Module,
    /// A component; it speaks WASI 0.2 or later.
    Component,
}

impl WasmKind {
    /// `None` if it is no WebAssembly binary.
    pub(super) fn of(bytes: &[u8]) -> Option<WasmKind> {
        match bytes.get(..8)? {
            [0, b'a', b's', b'm', 1, 0, 0, 0] => Some(WasmKind::Module),
            [0, b'a', b's', b'm', _, _, 1, 0] => Some(WasmKind::Component),
            _ => None,
        }
    }

    /// The platform's OS, as the wasm artifact guidance spells it.
    pub(super) fn os(self) -> &'static str {
        match self {
            WasmKind::Module => "wasip1",
            WasmKind::Component => "wasip2",
        }
    }
}

/// Names that a component imports and exports, for the artifact's config; empty where the binary cannot be followed.
pub(super) fn interface(bytes: &[u8]) -> (Vec<String>, Vec<String>) {
    const IMPORTS: u8 = 10;
    const EXPORTS: u8 = 11;
    let (mut imports, mut exports) = (Vec::new(), Vec::new());
    let mut input = Input(bytes.get(8..).unwrap_or_default());
    while let Some((id, section)) = input.section() {
        match id {
            IMPORTS => imports.extend(Input(section).names(Input::import).unwrap_or_default()),
            EXPORTS => exports.extend(Input(section).names(Input::export).unwrap_or_default()),
            _ => {}
        }
    }
    imports.sort();
    exports.sort();
    (imports, exports)
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn take(&mut self, length: u32) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some(taken)
    }

    /// LEB128.
    fn number(&mut self) -> Option<u32> {
        let mut value = 0u64;
        for shift in (0..35).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).ok();
            }
        }
        None
    }

    fn section(&mut self) -> Option<(u8, &'a [u8])> {
        let id = self.byte()?;
        let length = self.number()?;
        Some((id, self.take(length)?))
    }

    fn names(mut self, item: fn(&mut Input<'a>) -> Option<String>) -> Option<Vec<String>> {
        let count = self.number()?;
        (0..count).map(|_| item(&mut self)).collect()
    }

    fn name(&mut self) -> Option<String> {
        if self.byte()? > 1 {
            return None;
        }
        let length = self.number()?;
        String::from_utf8(self.take(length)?.to_vec()).ok()
    }

    fn import(&mut self) -> Option<String> {
        let name = self.name()?;
        self.description()?;
        Some(name)
    }

    fn export(&mut self) -> Option<String> {
        let name = self.name()?;
        // sort (a core sort has a second byte), index, optional type.
        if self.byte()? == 0 {
            self.byte()?;
        }
        self.number()?;
        match self.byte()? {
            0 => Some(()),
            1 => self.description(),
            _ => None,
        }?;
        Some(name)
    }

    /// The type of an import or export.
    fn description(&mut self) -> Option<()> {
        match self.byte()? {
            0 => {
                self.byte()?;
                self.number()?;
            }
            1 | 4 | 5 => {
                self.number()?;
            }
            2 => {
                self.byte()?;
                self.number()?;
            }
            3 => {
                if self.byte()? == 0 {
                    self.number()?;
                }
            }
            _ => return None,
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_components_and_neither() {
        assert_eq!(WasmKind::of(b"\0asm\x01\0\0\0"), Some(WasmKind::Module));
        assert_eq!(WasmKind::of(b"\0asm\x0d\0\x01\0rest"), Some(WasmKind::Component));
        for other in [b"".as_slice(), b"\0asm", b"\x7fELF\0\0\0\0", b"(module)"] {
            assert_eq!(WasmKind::of(other), None);
        }
    }

    #[test]
    fn names_of_a_component() {
        // (component (import "a:b/c" (instance 0)) (export "run" (func 0)))
        let bytes = b"\0asm\x0d\0\x01\0\x0a\x0a\x01\0\x05a:b/c\x05\0\x0b\x09\x01\0\x03run\x01\0\0";
        assert_eq!(interface(bytes), (vec!["a:b/c".to_owned()], vec!["run".to_owned()]));
        assert_eq!(interface(b"\0asm\x0d\0\x01\0\x0a\xff"), (vec![], vec![]));
    }
}
