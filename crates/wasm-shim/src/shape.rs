//! What a wasm file is, read from its bytes before anything is compiled.
//!
//! The shape decides how the file is compiled (services need epoch checks, programs run faster without) and how it is
//! run. It follows from what the file exports; nothing is guessed from names or annotations.

use serde::{Deserialize, Serialize};
use std::path::Path;
use wasmparser::{Encoding, Parser, Payload};

/// How a wasm file is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// A core module with `_start`: WASI preview 1.
    Command,
    /// A component exporting `wasi:cli/run` (0.2 or 0.3).
    ComponentCommand,
    /// A component exporting `wasi:http/incoming-handler` (0.2) or `wasi:http/handler` (0.3).
    HttpProxy,
}

impl Shape {
    const ALL: [Shape; 3] = [Shape::Command, Shape::ComponentCommand, Shape::HttpProxy];

    /// The part of a native file's name that carries the shape: `<key>.<tag>.native`.
    pub(crate) fn tag(self) -> &'static str {
        match self {
            Shape::Command => "module",
            Shape::ComponentCommand => "command",
            Shape::HttpProxy => "http",
        }
    }

    /// The shape of a file made by [`crate::NativeCache`], from its name.
    pub(crate) fn of_native(path: &Path) -> Option<Shape> {
        let tag = path
            .file_name()?
            .to_str()?
            .strip_suffix(".native")?
            .rsplit('.')
            .next()?;
        Shape::ALL.into_iter().find(|shape| shape.tag() == tag)
    }
}

/// What [`inspect`] found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Inspected {
    pub shape: Shape,
    /// `module::name` of a core module, interface names of a component, without repetition.
    pub imports: Vec<String>,
}

/// Why a file cannot be run as a container. Displays are complete for a user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRunnable {
    #[error("it is not WebAssembly: it does not begin with the bytes `\\0asm`")]
    NotWasm,
    #[error("it is not a valid WebAssembly file: {0}")]
    Malformed(String),
    #[error(
        "the module exports no `_start` function, so there is nothing to run ({})",
        found(.0)
    )]
    NoStart(Vec<String>),
    #[error(
        "the component exports neither wasi:cli/run nor wasi:http/incoming-handler, so there is nothing to run ({})",
        found(.0)
    )]
    NoWorld(Vec<String>),
}

fn found(exports: &[String]) -> String {
    const SHOWN: usize = 8;
    match exports {
        [] => "it exports nothing".to_owned(),
        few if few.len() <= SHOWN => format!("it exports {}", few.join(", ")),
        many => format!(
            "it exports {} and {} more",
            many[..SHOWN].join(", "),
            many.len() - SHOWN
        ),
    }
}

/// Reads imports and exports, without validating function bodies: the compiler does that.
pub(crate) fn inspect(bytes: &[u8]) -> Result<Inspected, NotRunnable> {
    if !bytes.starts_with(b"\0asm") {
        return Err(NotRunnable::NotWasm);
    }
    let surface = Surface::read(bytes).map_err(|error| NotRunnable::Malformed(error.message().to_owned()))?;
    let shape = if surface.component {
        component_shape(&surface.exports)?
    } else {
        module_shape(&surface.exports)?
    };
    Ok(Inspected {
        shape,
        imports: surface.imports,
    })
}

fn module_shape(exports: &[String]) -> Result<Shape, NotRunnable> {
    if exports.iter().any(|name| name == "_start") {
        Ok(Shape::Command)
    } else {
        Err(NotRunnable::NoStart(exports.to_vec()))
    }
}

fn component_shape(exports: &[String]) -> Result<Shape, NotRunnable> {
    let exports_one_of = |interfaces: &[&str]| {
        exports
            .iter()
            .any(|name| interfaces.contains(&name.split('@').next().unwrap_or(name)))
    };
    if exports_one_of(&["wasi:http/incoming-handler", "wasi:http/handler"]) {
        Ok(Shape::HttpProxy)
    } else if exports_one_of(&["wasi:cli/run"]) {
        Ok(Shape::ComponentCommand)
    } else {
        Err(NotRunnable::NoWorld(exports.to_vec()))
    }
}

/// Imports and exports of the outermost module or component.
struct Surface {
    component: bool,
    imports: Vec<String>,
    exports: Vec<String>,
}

impl Surface {
    fn read(bytes: &[u8]) -> wasmparser::Result<Surface> {
        let mut surface = Surface {
            component: false,
            imports: Vec::new(),
            exports: Vec::new(),
        };
        let mut depth = 0_usize;
        for payload in Parser::new(0).parse_all(bytes) {
            match payload? {
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                outer if depth == 0 => surface.add(outer)?,
                _inner => {}
            }
        }
        surface.imports.dedup();
        Ok(surface)
    }

    fn add(&mut self, payload: Payload<'_>) -> wasmparser::Result<()> {
        match payload {
            Payload::Version { encoding, .. } => self.component = encoding == Encoding::Component,
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import?;
                    self.imports.push(format!("{}::{}", import.module, import.name));
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    self.exports.push(export?.name.to_owned());
                }
            }
            Payload::ComponentImportSection(section) => {
                for import in section {
                    self.imports.push(import?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section {
                    self.exports.push(export?.name.name.to_owned());
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<Inspected, NotRunnable> {
        inspect(&wat::parse_str(text).expect("test text is valid"))
    }

    #[test]
    fn a_module_with_start_is_a_command() {
        let inspected = check(
            r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func (param i32))) (func (export "_start")))"#,
        );
        assert_eq!(
            inspected,
            Ok(Inspected {
                shape: Shape::Command,
                imports: vec!["wasi_snapshot_preview1::proc_exit".to_owned()]
            })
        );
    }

    #[test]
    fn a_library_names_what_it_exports() {
        let error = check(r#"(module (func (export "add")) (func (export "sub")))"#).expect_err("not runnable");
        assert!(error.to_string().ends_with("(it exports add, sub)"), "{error}");
    }

    #[test]
    fn components_are_told_apart_by_their_exports() {
        let service = r#"(component (component $c) (instance $i (instantiate $c))
            (export "wasi:http/incoming-handler@0.2.3" (instance $i)))"#;
        assert_eq!(check(service).map(|found| found.shape), Ok(Shape::HttpProxy));
        let command = service.replace("wasi:http/incoming-handler@0.2.3", "wasi:cli/run@0.2.0");
        assert_eq!(check(&command).map(|found| found.shape), Ok(Shape::ComponentCommand));
        let other = service.replace("wasi:http/incoming-handler@0.2.3", "acme:shop/cart@1.0.0");
        assert_eq!(
            check(&other),
            Err(NotRunnable::NoWorld(vec!["acme:shop/cart@1.0.0".to_owned()]))
        );
    }

    #[test]
    fn the_inside_of_a_component_does_not_count() {
        let text = r#"(component (core module (import "env" "hidden" (func)) (func (export "_start"))))"#;
        assert_eq!(check(text), Err(NotRunnable::NoWorld(Vec::new())));
    }

    #[test]
    fn bytes_that_are_not_wasm_are_refused() {
        assert_eq!(inspect(b"\x7fELF"), Err(NotRunnable::NotWasm));
        assert_eq!(inspect(b""), Err(NotRunnable::NotWasm));
        assert!(matches!(
            inspect(b"\0asm\x01\0\0\0\x01\xff\xff"),
            Err(NotRunnable::Malformed(_))
        ));
    }

    #[test]
    fn the_shape_survives_in_the_file_name() {
        for shape in Shape::ALL {
            let path = format!("/cache/0123.{}.native", shape.tag());
            assert_eq!(Shape::of_native(Path::new(&path)), Some(shape));
        }
        assert_eq!(Shape::of_native(Path::new("/cache/0123.native")), None);
        assert_eq!(Shape::of_native(Path::new("/cache/0123.http")), None);
    }
}
