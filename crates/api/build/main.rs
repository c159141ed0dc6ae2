//! Writes down what `k8s-openapi` knows about the fields of types, while Catamaran is built.
//!
//! The crate has that knowledge as code which makes JSON schemas. In the program this code would be megabytes that run once, so
//! it runs here, and the program gets tables: `types.txt` and `answers.txt`, what fields a type has, for the checks of every write and
//! for protobuf; and `schemas.z`, the schemas with their descriptions, for documents that are asked for now and then. Who reads them says how they
//! are written: `src/schema/builtin.rs` and `src/schema/published.rs`.

mod answers;
mod types;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;

/// Where references to definitions point, as in an OpenAPI document.
const DEFINITIONS: &str = "/components/schemas";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build");
    let mut generator = generator();
    types::add_all(&mut generator);
    let definitions = generator.take_definitions(false);
    let answers = answers::definitions(self::generator());

    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    std::fs::write(out.join("types.txt"), compact(&definitions))?;
    std::fs::write(out.join("answers.txt"), compact(&answers))?;
    std::fs::write(out.join("schemas.z"), published(&definitions)?)?;
    Ok(())
}

fn generator() -> SchemaGenerator {
    let settings = SchemaSettings::default().with(|settings| {
        settings.definitions_path = DEFINITIONS.into();
        settings.meta_schema = None;
        settings.transforms = Vec::new();
    });
    settings.into_generator()
}

/// One definition a line: its name, a tab, and its schema. All of it compressed.
fn published(definitions: &Map<String, Value>) -> std::io::Result<Vec<u8>> {
    let mut compressed = ZlibEncoder::new(Vec::new(), Compression::best());
    for (name, schema) in definitions {
        writeln!(compressed, "{name}\t{schema}")?;
    }
    compressed.finish()
}

/// One type with fields a line: its name, and `field=type` for each.
fn compact(definitions: &Map<String, Value>) -> String {
    let objects: Vec<(&String, &Map<String, Value>)> = definitions
        .iter()
        .filter_map(|(name, schema)| Some((name, schema.get("properties")?.as_object()?)))
        .collect();
    let index_of = objects
        .iter()
        .enumerate()
        .map(|(index, (name, _))| (name.as_str(), index))
        .collect();
    let types = Types { definitions, index_of };
    let mut text = String::new();
    for (name, properties) in &objects {
        text.push_str(name);
        for (field, schema) in *properties {
            let _ = write!(text, " {field}=");
            types.write(schema, &mut text);
        }
        text.push('\n');
    }
    text
}

struct Types<'a> {
    definitions: &'a Map<String, Value>,
    /// The line of a type with fields.
    index_of: HashMap<&'a str, usize>,
}

impl Types<'_> {
    /// A letter for a type without parts; `[` or `{` before the type of a list's items or a map's values; `@` and its line for a
    /// type with fields.
    fn write(&self, schema: &Value, text: &mut String) {
        let member = |name: &str| schema.get(name).and_then(Value::as_str).unwrap_or_default();
        if let Some(name) = member("$ref").rsplit('/').next().filter(|name| !name.is_empty()) {
            match (self.index_of.get(name), self.definitions.get(name)) {
                (Some(index), _) => drop(write!(text, "@{index}")),
                (None, _) if name.ends_with(".Quantity") => text.push('q'),
                (None, Some(schema)) => self.write(schema, text),
                (None, None) => text.push('*'),
            }
            return;
        }
        if schema.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
            text.push('x');
            return;
        }
        let (letter, inner) = match (member("type"), member("format")) {
            ("string", "byte") => ('b', None),
            ("string", "date-time") => ('t', None),
            ("string", _) => ('s', None),
            ("integer", "int32") => ('i', None),
            ("integer", _) => ('l', None),
            ("number", _) => ('n', None),
            ("boolean", _) => ('o', None),
            ("array", _) => ('[', schema.get("items")),
            ("object", _) => ('{', schema.get("additionalProperties")),
            _ => ('*', None),
        };
        match inner {
            Some(inner) => {
                text.push(letter);
                self.write(inner, text);
            }
            None if letter == '[' || letter == '{' => text.push('*'),
            None => text.push(letter),
        }
    }
}
