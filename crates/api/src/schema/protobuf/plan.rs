//! The table of numbers and the schemas, put together for writing: for each message, what becomes of each key of its JSON.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::super::{Schemas, Type};
use super::{Either, JSON_SCHEMA, Special, TABLE, message_for, schemas_of};

/// All messages, and the lists of those that are whole objects.
pub(super) struct Plan {
    messages: Vec<Message>,
    by_name: HashMap<String, usize>,
    /// The schema of a custom resource.
    pub(super) json_schema: usize,
}

#[derive(Default)]
pub(super) struct Message {
    fields: HashMap<&'static str, Slot>,
}

/// Where a field goes.
pub(super) struct Slot {
    pub(super) number: u64,
    pub(super) form: Form,
    /// Numbers of the messages around it which JSON does not know.
    pub(super) path: Vec<u64>,
}

/// What a field is.
#[derive(Clone, Debug)]
pub(super) enum Form {
    Message(usize),
    /// A message without fields.
    Empty,
    Text,
    Bytes,
    Time,
    Quantity,
    IntOrString,
    /// Raw JSON in a message of one field.
    Any,
    Boolean,
    Integer,
    Double,
    List(Box<Form>),
    Map(Box<Form>),
    /// A list in a message of one field.
    Wrapped(Box<Form>),
    Either(Either),
}

impl Plan {
    pub(super) fn get() -> &'static Self {
        static PLAN: LazyLock<Plan> = LazyLock::new(Plan::new);
        &PLAN
    }

    fn new() -> Self {
        let mut names: Vec<&'static str> = TABLE.keys().copied().collect();
        names.sort_unstable();
        let mut by_name: HashMap<String, usize> = HashMap::new();
        for (index, name) in names.iter().enumerate() {
            by_name.insert((*name).to_owned(), index);
        }
        let mut messages = Vec::with_capacity(names.len());
        for name in &names {
            let mut message = Message::default();
            if let Some((schemas, definition)) = schemas_of(name) {
                add_fields(&mut message, schemas, definition, name, &[], &by_name);
            }
            messages.push(message);
        }
        let objects = names.iter().enumerate().filter(|(_, name)| is_object(name));
        let lists: Vec<(String, Message)> = objects
            .map(|(index, name)| (format!("{name}List"), list_of(index, &by_name)))
            .collect();
        for (name, message) in lists {
            if let std::collections::hash_map::Entry::Vacant(entry) = by_name.entry(name) {
                entry.insert(messages.len());
                messages.push(message);
            }
        }
        Plan {
            json_schema: by_name.get(JSON_SCHEMA).copied().unwrap_or_default(),
            messages,
            by_name,
        }
    }

    pub(super) fn find(&self, message: &str) -> Option<usize> {
        self.by_name.get(message).copied()
    }

    pub(super) fn slot(&self, message: usize, key: &str) -> Option<&Slot> {
        self.messages[message].fields.get(key)
    }
}

fn is_object(name: &str) -> bool {
    schemas_of(name).is_some_and(|(schemas, definition)| {
        let fields = &schemas.definitions[definition].fields;
        fields.contains_key("metadata") && fields.contains_key("kind")
    })
}

fn list_of(item: usize, by_name: &HashMap<String, usize>) -> Message {
    let slot = |number, form| Slot {
        number,
        form,
        path: Vec::new(),
    };
    let metadata = by_name.get("meta.v1.ListMeta").copied().unwrap_or_default();
    Message {
        fields: [
            ("metadata", slot(1, Form::Message(metadata))),
            ("items", slot(2, Form::List(Box::new(Form::Message(item))))),
        ]
        .into(),
    }
}

fn add_fields(
    message: &mut Message,
    schemas: &Schemas,
    definition: usize,
    name: &str,
    path: &[u64],
    by_name: &HashMap<String, usize>,
) {
    let described = &schemas.definitions[definition].fields;
    for (number, field) in TABLE.get(name).into_iter().flatten() {
        match (described.get(field.name), field.inlined) {
            (Some(ty), _) => {
                let form = match field.special {
                    Some(Special::Either(either)) => either_form(ty, either),
                    Some(Special::Wrapped) => Form::Wrapped(Box::new(item_form(schemas, ty, by_name))),
                    Some(Special::Empty) => Form::Empty,
                    None => form(schemas, ty, by_name),
                };
                let slot = Slot {
                    number: *number,
                    form,
                    path: path.to_vec(),
                };
                message.fields.insert(field.name, slot);
            }
            (None, Some(inner)) => {
                let path = [path, &[*number]].concat();
                add_fields(message, schemas, definition, inner, &path, by_name);
            }
            (None, None) => {}
        }
    }
}

fn either_form(ty: &Type, either: Either) -> Form {
    match ty {
        Type::Map(..) => Form::Map(Box::new(Form::Either(either))),
        _ => Form::Either(either),
    }
}

fn item_form(schemas: &Schemas, ty: &Type, by_name: &HashMap<String, usize>) -> Form {
    match ty {
        Type::List(items, _) => form(schemas, items, by_name),
        other => form(schemas, other, by_name),
    }
}

fn form(schemas: &Schemas, ty: &Type, by_name: &HashMap<String, usize>) -> Form {
    let of = |ty: &Type| Box::new(form(schemas, ty, by_name));
    match ty {
        Type::Any => Form::Any,
        Type::Object(index) => {
            let name = message_for(&schemas.definitions[*index].name);
            match name.and_then(|name| by_name.get(name)) {
                Some(message) => Form::Message(*message),
                None => Form::Any,
            }
        }
        Type::Map(values, _) => Form::Map(match &**values {
            Type::List(items, _) => Box::new(Form::Wrapped(of(items))),
            values => of(values),
        }),
        Type::List(items, _) => Form::List(of(items)),
        Type::String => Form::Text,
        Type::Bytes => Form::Bytes,
        Type::Time => Form::Time,
        Type::Quantity => Form::Quantity,
        Type::IntOrString => Form::IntOrString,
        Type::Int32 | Type::Int64 => Form::Integer,
        Type::Number => Form::Double,
        Type::Boolean => Form::Boolean,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What has no message would be written as something no client reads.
    #[test]
    fn every_message_has_a_definition_and_every_field_a_form() {
        fn innermost(form: &Form) -> &Form {
            match form {
                Form::List(inner) | Form::Map(inner) | Form::Wrapped(inner) => innermost(inner),
                other => other,
            }
        }
        let plan = Plan::get();
        let mut raw: Vec<String> = Vec::new();
        for (name, index) in &plan.by_name {
            for (field, slot) in &plan.messages[*index].fields {
                if matches!(innermost(&slot.form), Form::Any) {
                    raw.push(format!("{name}.{field}"));
                }
            }
        }
        raw.sort();
        assert_eq!(
            raw,
            [
                "apiextensions.v1.JSONSchemaProps.default",
                "apiextensions.v1.JSONSchemaProps.enum",
                "apiextensions.v1.JSONSchemaProps.example",
                "apps.v1.ControllerRevision.data",
                "meta.v1.ManagedFieldsEntry.fieldsV1",
                "resource.v1.AllocatedDeviceStatus.data",
                "resource.v1.OpaqueDeviceConfiguration.parameters",
            ]
        );
    }
}
