//! `cata explain`: what a field means, from the server's OpenAPI v3 documents.

use crate::client::discovery::Catalogue;
use crate::client::{ClientArgs, Connection};
use crate::data_dir::DataDir;
use anyhow::{Context, Result, bail};
use serde_json::Value;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// TYPE or TYPE.field.field
    path: String,
    /// Show the fields of fields as well
    #[arg(long)]
    recursive: bool,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn run(args: Args, data_dir: Option<&DataDir>) -> Result<()> {
    let connection = args.client.connect(data_dir).await?;
    let catalogue = Catalogue::fetch(&connection).await?;
    let mut words = args.path.split('.');
    let resource = catalogue.find(words.next().unwrap_or_default())?;
    let document = document(&connection, &resource.group, &resource.version).await?;
    let root = schema_of(&document, &resource.group, &resource.version, &resource.kind)
        .with_context(|| format!("the server documents no fields of {}", resource.qualified()))?;
    let mut schema = resolve(&document, root);
    let mut field = None;
    for word in words {
        let next = properties(&schema).and_then(|properties| properties.get(word).cloned());
        let next = next.with_context(|| format!("field {word:?} does not exist in {}", args.path))?;
        field = Some((word.to_owned(), type_name(&document, &next)));
        schema = described(&document, &next);
    }

    if !resource.group.is_empty() {
        println!("GROUP:      {}", resource.group);
    }
    println!("KIND:       {}\nVERSION:    {}\n", resource.kind, resource.version);
    if let Some((name, kind)) = field {
        println!("FIELD: {name} <{kind}>\n");
    }
    println!("DESCRIPTION:");
    print_wrapped(schema["description"].as_str().unwrap_or("<empty>"), 4);
    // What the type is, below what it is here.
    if let Some(type_description) = schema[TYPE_DESCRIPTION].as_str() {
        print_wrapped(type_description, 4);
    }
    if properties(&schema).is_some_and(|properties| !properties.is_empty()) {
        println!("\nFIELDS:");
        print_fields(&document, &schema, args.recursive, 2, 0);
    }
    println!();
    Ok(())
}

async fn document(connection: &Connection, group: &str, version: &str) -> Result<Value> {
    let path = if group.is_empty() {
        format!("api/{version}")
    } else {
        format!("apis/{group}/{version}")
    };
    let index = connection.json(http::Method::GET, "/openapi/v3", None).await?;
    let Some(url) = index["paths"][&path]["serverRelativeURL"].as_str() else {
        bail!("the server has no OpenAPI document for {path}");
    };
    connection.json(http::Method::GET, url, None).await
}

fn schema_of<'a>(document: &'a Value, group: &str, version: &str, kind: &str) -> Option<&'a Value> {
    let schemas = document["components"]["schemas"].as_object()?;
    schemas.values().find(|schema| {
        let kinds = schema["x-kubernetes-group-version-kind"]
            .as_array()
            .into_iter()
            .flatten();
        kinds.into_iter().any(|gvk| {
            gvk["kind"] == kind && gvk["version"] == version && gvk["group"].as_str().unwrap_or_default() == group
        })
    })
}

/// Follows `$ref` and single `allOf`.
fn resolve(document: &Value, schema: &Value) -> Value {
    let reference = schema["$ref"].as_str().or_else(|| schema["allOf"][0]["$ref"].as_str());
    match reference.and_then(|reference| reference.strip_prefix("#/components/schemas/")) {
        Some(name) => document["components"]["schemas"][name].clone(),
        None => schema.clone(),
    }
}

/// Where [`described`] keeps the description of a field's type, beside that of the field.
const TYPE_DESCRIPTION: &str = "x-type-description";

/// The schema behind a field (of its items, when it is a list), under the field's own description where it has one.
fn described(document: &Value, field: &Value) -> Value {
    let mut schema = match field["items"].is_object() {
        true => resolve(document, &field["items"]),
        false if field["additionalProperties"].is_object() => resolve(document, &field["additionalProperties"]),
        false => resolve(document, field),
    };
    if let (Some(own), Some(object)) = (field["description"].as_str(), schema.as_object_mut()) {
        let of_type = object.insert("description".to_owned(), own.into());
        if let Some(of_type) = of_type.filter(|of_type| of_type.as_str() != Some(own)) {
            object.insert(TYPE_DESCRIPTION.to_owned(), of_type);
        }
    }
    schema
}

fn properties(schema: &Value) -> Option<&serde_json::Map<String, Value>> {
    schema["properties"].as_object()
}

fn type_name(document: &Value, field: &Value) -> String {
    if field["items"].is_object() {
        return format!("[]{}", type_name(document, &field["items"]));
    }
    if field["additionalProperties"].is_object() {
        return format!("map[string]{}", type_name(document, &field["additionalProperties"]));
    }
    let reference = field["$ref"].as_str().or_else(|| field["allOf"][0]["$ref"].as_str());
    if let Some(reference) = reference {
        let target = resolve(document, field);
        // Times and quantities are objects in Go and strings on the wire.
        return match target["type"].as_str() {
            Some("object") | None => reference.rsplit('.').next().unwrap_or("Object").to_owned(),
            Some(simple) => simple.to_owned(),
        };
    }
    field["type"].as_str().unwrap_or("Object").to_owned()
}

/// Deeper than any useful answer, and a bound for schemas that contain themselves.
const DEEPEST: usize = 12;

fn print_fields(document: &Value, schema: &Value, recursive: bool, indent: usize, depth: usize) {
    let Some(properties) = properties(schema) else { return };
    let required: Vec<&str> = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    for (name, field) in properties {
        let mark = if required.contains(&name.as_str()) {
            " -required-"
        } else {
            ""
        };
        println!("{:indent$}{name}\t<{}>{mark}", "", type_name(document, field));
        let inner = described(document, field);
        if recursive {
            if depth < DEEPEST {
                print_fields(document, &inner, true, indent + 2, depth + 1);
            }
        } else {
            print_wrapped(inner["description"].as_str().unwrap_or("<no description>"), indent + 2);
            println!();
        }
    }
}

fn print_wrapped(text: &str, indent: usize) {
    const WIDTH: usize = 80;
    for paragraph in text.lines() {
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            if !line.is_empty() && indent + line.len() + word.len() + 1 > WIDTH {
                println!("{:indent$}{line}", "");
                line.clear();
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        println!("{:indent$}{line}", "");
    }
}
