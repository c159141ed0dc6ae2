//! The types of Kubernetes 1.35's stable API, from the table that `build/main.rs` writes.

use super::{Definition, ListType, Schemas, Type, add_topology, presence};
use std::collections::HashMap;

/// What objects are made of. One type a line, `name field=type …`; types by letter, see [`read_type`].
pub(super) const TYPES: &str = include_str!(concat!(env!("OUT_DIR"), "/types.txt"));

/// What only answers are made of, in the same form.
pub(super) const ANSWERS: &str = include_str!(concat!(env!("OUT_DIR"), "/answers.txt"));

pub(super) fn read(table: &str) -> Schemas {
    let mut definitions: Vec<Definition> = table.lines().filter_map(definition).collect();
    let names = definitions.iter().enumerate();
    let by_name: HashMap<String, usize> = names
        .map(|(index, definition)| (definition.name.clone(), index))
        .collect();
    add_topology(&mut definitions);
    for definition in &mut definitions {
        definition.stated = presence::stated(&definition.name);
    }
    Schemas {
        definitions,
        by_name,
        ..Schemas::default()
    }
}

fn definition(line: &str) -> Option<Definition> {
    let mut words = line.split(' ');
    let name = words.next()?.to_owned();
    let field = |word: &str| {
        let (field, ty) = word.split_once('=')?;
        Some((field.into(), read_type(ty)))
    };
    Some(Definition {
        name,
        fields: words.filter_map(field).collect(),
        ..Definition::default()
    })
}

fn read_type(text: &str) -> Type {
    let (letter, rest) = text.split_at_checked(1).unwrap_or_default();
    match letter {
        "@" => rest.parse().map_or(Type::Any, Type::Object),
        "[" => Type::List(Box::new(read_type(rest)), ListType::Atomic),
        "{" => Type::Map(Box::new(read_type(rest)), false),
        "s" => Type::String,
        "b" => Type::Bytes,
        "t" => Type::Time,
        "q" => Type::Quantity,
        "x" => Type::IntOrString,
        "i" => Type::Int32,
        "l" => Type::Int64,
        "n" => Type::Number,
        "o" => Type::Boolean,
        _ => Type::Any,
    }
}
