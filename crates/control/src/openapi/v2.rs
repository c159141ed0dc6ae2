//! OpenAPI v2: everything in one document, made from the parts of v3.
//!
//! New clients prefer v3, but `kubectl create` of a `List` and client-side validation still download this one, as protobuf and
//! nothing else. The messages are those of <https://github.com/google/gnostic/blob/main/openapiv2/OpenAPIv2.proto>, of which
//! clients use the definitions, and the query parameters of operations.

use catamaran_api::schema::DEFINITIONS;
use serde_json::{Map, Value, json};

const METHODS: [&str; 4] = ["get", "put", "post", "delete"];

/// The document, from all schemas and paths of v3.
pub(super) fn document(paths: Map<String, Value>, schemas: Map<String, Value>, version: &str) -> Value {
    let mut paths = Value::Object(paths);
    let mut definitions = Value::Object(schemas);
    definitions
        .as_object_mut()
        .into_iter()
        .flat_map(|map| map.values_mut())
        .for_each(schema);
    for item in paths.as_object_mut().into_iter().flat_map(|map| map.values_mut()) {
        path(item);
    }
    json!({
        "swagger": "2.0",
        "info": { "title": "Catamaran", "version": version },
        "paths": paths,
        "definitions": definitions,
    })
}

/// A schema of v3 as one of v2: references stand alone, and there are no alternatives.
fn schema(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(schema),
        Value::Object(fields) => {
            if let Some(Value::Array(all)) = fields.remove("allOf")
                && let Some(reference) = all.first().and_then(|first| first.get("$ref"))
            {
                fields.insert("$ref".to_owned(), reference.clone());
                fields.remove("default");
            }
            if fields.remove("oneOf").is_some() {
                fields.insert("type".to_owned(), json!("string"));
                fields.insert("format".to_owned(), json!("int-or-string"));
            }
            if let Some(Value::String(reference)) = fields.get_mut("$ref") {
                *reference = reference.replacen(DEFINITIONS, "/definitions", 1);
            }
            fields.remove("nullable");
            fields.values_mut().for_each(schema);
        }
        _ => {}
    }
}

fn path(item: &mut Value) {
    for (key, value) in item.as_object_mut().into_iter().flatten() {
        match key.as_str() {
            "parameters" => parameters(value),
            _ => operation(value),
        }
    }
}

fn operation(value: &mut Value) {
    let Some(fields) = value.as_object_mut() else { return };
    let mut list = fields.remove("parameters").unwrap_or_else(|| json!([]));
    parameters(&mut list);
    if let (Some(body), Some(list)) = (fields.remove("requestBody"), list.as_array_mut()) {
        let content = body["content"].as_object().and_then(|content| content.values().next());
        let mut parameter = json!({ "name": "body", "in": "body", "required": body["required"] });
        parameter["schema"] = content.map_or_else(|| json!({}), |content| content["schema"].clone());
        schema(&mut parameter["schema"]);
        list.push(parameter);
    }
    fields.insert("parameters".to_owned(), list);
    for response in fields
        .get_mut("responses")
        .and_then(Value::as_object_mut)
        .into_iter()
        .flat_map(|map| map.values_mut())
    {
        let content = response
            .as_object_mut()
            .and_then(|response| response.remove("content"))
            .unwrap_or_default();
        if let Some(content) = content.as_object().and_then(|content| content.values().next()) {
            response["schema"] = content["schema"].clone();
            schema(&mut response["schema"]);
        }
    }
}

/// The type of a parameter is not in a schema of its own.
fn parameters(list: &mut Value) {
    for parameter in list.as_array_mut().into_iter().flatten() {
        if let Some(Value::Object(inner)) = parameter.as_object_mut().and_then(|own| own.remove("schema")) {
            for (key, value) in inner {
                parameter[key] = value;
            }
        }
    }
}

/// The document as protobuf.
pub(super) fn protobuf(document: &Value) -> Vec<u8> {
    let mut message = Message::default();
    message.text(1, &document["swagger"]);
    let mut info = Message::default();
    info.text(1, &document["info"]["title"]);
    info.text(2, &document["info"]["version"]);
    message.message(2, &info);
    let mut paths = Message::default();
    for (name, item) in document["paths"].as_object().into_iter().flatten() {
        paths.named(2, name, &path_message(item));
    }
    message.message(8, &paths);
    message.message(9, &schemas_message(&document["definitions"]));
    message.0
}

fn schemas_message(schemas: &Value) -> Message {
    let mut message = Message::default();
    for (name, schema) in schemas.as_object().into_iter().flatten() {
        message.named(1, name, &schema_message(schema));
    }
    message
}

fn schema_message(schema: &Value) -> Message {
    let mut message = Message::default();
    for (key, value) in schema.as_object().into_iter().flatten() {
        match key.as_str() {
            "$ref" => message.text(1, value),
            "format" => message.text(2, value),
            "title" => message.text(3, value),
            "description" => message.text(4, value),
            "default" => message.message(5, &any(value)),
            "required" => texts(value).for_each(|text| message.text(19, text)),
            "enum" => texts(value).for_each(|one| message.message(20, &any(one))),
            "additionalProperties" => {
                let mut either = Message::default();
                match value {
                    Value::Bool(allowed) => either.number(2, u64::from(*allowed)),
                    schema => either.message(1, &schema_message(schema)),
                }
                message.message(21, &either);
            }
            "type" => {
                let mut item = Message::default();
                item.text(1, value);
                message.message(22, &item);
            }
            "items" => {
                let mut item = Message::default();
                item.message(1, &schema_message(value));
                message.message(23, &item);
            }
            "properties" => message.message(25, &schemas_message(value)),
            extension if extension.starts_with("x-") => message.named(31, extension, &any(value)),
            _ => {}
        }
    }
    message
}

fn path_message(item: &Value) -> Message {
    let mut message = Message::default();
    for (number, method) in (2..).zip(METHODS).chain([(8, "patch")]) {
        if let Some(operation) = item.get(method) {
            message.message(number, &operation_message(operation));
        }
    }
    message
}

fn operation_message(operation: &Value) -> Message {
    let mut message = Message::default();
    message.text(5, &operation["operationId"]);
    for parameter in texts(&operation["parameters"]).filter(|parameter| parameter["in"] == "query") {
        let mut query = Message::default();
        query.text(2, &parameter["in"]);
        query.text(3, &parameter["description"]);
        query.text(4, &parameter["name"]);
        query.text(6, &parameter["type"]);
        // ParametersItem → Parameter → NonBodyParameter → QueryParameterSubSchema.
        message.message(8, &query.within(3).within(2).within(1));
    }
    for (key, value) in operation.as_object().into_iter().flatten() {
        if key.starts_with("x-") {
            message.named(13, key, &any(value));
        }
    }
    message
}

fn texts(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// JSON is YAML.
fn any(value: &Value) -> Message {
    let mut message = Message::default();
    message.bytes(2, value.to_string().as_bytes());
    message
}

/// The bytes of a message. <https://protobuf.dev/programming-guides/encoding/>
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn number(&mut self, field: u64, value: u64) {
        self.varint(field << 3);
        self.varint(value);
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn text(&mut self, field: u64, value: &Value) {
        if let Some(text) = value.as_str() {
            self.bytes(field, text.as_bytes());
        }
    }

    fn message(&mut self, field: u64, message: &Message) {
        self.bytes(field, &message.0);
    }

    /// An entry of a map: the name and what it stands for.
    fn named(&mut self, field: u64, name: &str, value: &Message) {
        let mut entry = Message::default();
        entry.bytes(1, name.as_bytes());
        entry.message(2, value);
        self.message(field, &entry);
    }

    /// A message whose only field is this one.
    fn within(self, field: u64) -> Message {
        let mut outer = Message::default();
        outer.message(field, &self);
        outer
    }

    #[expect(clippy::cast_possible_truncation, reason = "seven bits at a time")]
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}
