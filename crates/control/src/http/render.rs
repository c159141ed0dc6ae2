//! From records to the bytes of an answer, in the form the client asked for.

use super::compress::Compressible;
use super::list_body::ListBody;
use super::negotiate::{Form, Language, Shape};
use super::present::Indentable;
use super::protobuf;
use crate::registry::resource::{Resource, metadata_of};
use crate::registry::{List, Written};
use crate::watch_cache::Record;
use axum::body::Body;
use axum::response::Response;
use bytes::{BufMut as _, Bytes, BytesMut};
use catamaran_api::Status;
use catamaran_api::table::{IncludeObject, Row, Table, partial_metadata};
use http::{HeaderValue, StatusCode, header};
use http_body::Body as _;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::Arc;

/// Bytes of all warnings of an answer together …
const WARNINGS_CHARS: usize = 4096;
/// … and characters of each, where they would be more.
const WARNING_CHARS: usize = 256;

/// How to answer, settled before the work is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    pub(crate) form: Form,
    pub(crate) include: IncludeObject,
}

/// One object.
pub(crate) fn object(resource: &Resource, style: Style, status: StatusCode, json: Bytes) -> Result<Response, Status> {
    let json = match style.form.shape {
        Shape::Whole | Shape::Discovery => json,
        Shape::PartialMetadata => to_bytes(&partial_metadata(&parse(&json)?))?,
        Shape::Table => {
            let value = parse(&json)?;
            let version = value.pointer("/metadata/resourceVersion");
            let row = row(resource, &json, &value, style.include, Timestamp::now())?;
            to_bytes(&Table::new(
                version.map_or_else(|| json!({}), |version| json!({ "resourceVersion": version })),
                resource.kind.columns(),
                vec![row],
            ))?
        }
    };
    respond(style.form, status, json)
}

/// The result of a write.
pub(crate) fn written(resource: &Resource, style: Style, written: Written) -> Result<Response, Status> {
    let status = if written.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let mut response = object(resource, style, status, written.json)?;
    warn(&mut response, &written.warnings);
    Ok(response)
}

/// A list or a page of one.
pub(crate) async fn list(resource: &Arc<Resource>, style: Style, list: List) -> Result<Response, Status> {
    let metadata = list_metadata(&list);
    let records = list.records;
    // Rows and metadata are a part of their objects.
    let about = match style.form.shape {
        Shape::Whole | Shape::Discovery => 0,
        Shape::PartialMetadata | Shape::Table => records.iter().map(|record| record.len() as u64 / 2).sum(),
    };
    let body = match (style.form.shape, style.form.language) {
        (_, Language::Yaml) => return yaml_list(resource, style, &metadata, &records),
        (shape, Language::Protobuf) => {
            protobuf::list(resource, shape == Shape::PartialMetadata, &metadata, records).await?
        }
        (Shape::Whole | Shape::Discovery, Language::Json) => {
            let head = list_head(&resource.info.list_kind, &resource.api_version, &metadata);
            ListBody::whole(head, records, END)
        }
        (Shape::PartialMetadata, Language::Json) => {
            let head = list_head("PartialObjectMetadataList", META, &metadata);
            ListBody::rendered(
                head,
                records,
                END,
                Box::new(|record, out| put_partial(out, record.bytes())),
            )
        }
        (Shape::Table, Language::Json) => table_body(resource, style, &metadata, records)?,
    };
    let length = body.size_hint().exact().unwrap_or(about);
    let mut response = Response::new(Body::new(body));
    set_type(&mut response, style.form);
    response.extensions_mut().insert(Compressible(length));
    Ok(response)
}

const META: &str = "meta.k8s.io/v1";
/// The end of a list.
const END: &[u8] = b"]}\n";

fn list_head(kind: &str, api_version: &str, metadata: &Value) -> Vec<u8> {
    format!(r#"{{"kind":"{kind}","apiVersion":"{api_version}","metadata":{metadata},"items":["#).into_bytes()
}

/// YAML is made of trees.
fn yaml_list(
    resource: &Arc<Resource>,
    style: Style,
    metadata: &Value,
    records: &[Arc<Record>],
) -> Result<Response, Status> {
    let (kind, api_version, items) = match style.form.shape {
        Shape::Whole | Shape::Discovery => (
            resource.info.list_kind.to_string(),
            resource.api_version.as_str(),
            trees(records)?,
        ),
        Shape::PartialMetadata => (
            "PartialObjectMetadataList".to_owned(),
            META,
            trees(records)?.iter().map(partial_metadata).collect(),
        ),
        Shape::Table => {
            let now = Timestamp::now();
            let rows: Vec<Row> = records
                .iter()
                .map(|record| {
                    let json = record.json();
                    row(resource, &json, &parse(&json)?, style.include, now)
                })
                .collect::<Result<_, Status>>()?;
            let table = Table::new(metadata.clone(), resource.kind.columns(), rows);
            return respond(style.form, StatusCode::OK, to_bytes(&table)?);
        }
    };
    let value = json!({ "kind": kind, "apiVersion": api_version, "metadata": metadata, "items": items });
    respond(style.form, StatusCode::OK, to_bytes(&value)?)
}

/// Rows are rendered while they are sent.
fn table_body(
    resource: &Arc<Resource>,
    style: Style,
    metadata: &Value,
    records: Vec<Arc<Record>>,
) -> Result<ListBody, Status> {
    let empty = serde_json::to_string(&Table::new(metadata.clone(), resource.kind.columns(), Vec::new()));
    let empty = empty.map_err(Status::internal)?;
    let head = empty
        .strip_suffix("]}")
        .ok_or_else(|| Status::internal("a table does not end with its rows"))?;
    let (resource, now) = (Arc::clone(resource), Timestamp::now());
    let write = move |record: &Record, out: &mut BytesMut| put_row(out, &resource, record, style.include, now);
    Ok(ListBody::rendered(
        head.as_bytes().to_vec(),
        records,
        END,
        Box::new(write),
    ))
}

fn put_row(out: &mut BytesMut, resource: &Resource, record: &Record, include: IncludeObject, now: Timestamp) {
    let json = record.bytes();
    let cells = match resource.kind.decode_slice(json) {
        Ok(object) => resource.kind.row(object.as_ref(), now),
        Err(error) => {
            // The answer has begun: a row with only a name is better than none at all.
            tracing::error!(
                error = &error as &dyn std::error::Error,
                key = &*record.key,
                "cannot make a row"
            );
            vec![json!(record.name())]
        }
    };
    out.put_slice(b"{\"cells\":");
    if serde_json::to_writer((&mut *out).writer(), &cells).is_err() {
        out.put_slice(b"[]");
    }
    match include {
        IncludeObject::None => {}
        IncludeObject::Metadata => {
            out.put_slice(b",\"object\":");
            put_partial(out, json);
        }
        IncludeObject::Object => {
            out.put_slice(b",\"object\":");
            out.put_slice(json);
        }
    }
    out.put_u8(b'}');
}

/// The object without anything but its metadata.
pub(super) fn put_partial(out: &mut BytesMut, json: &[u8]) {
    out.put_slice(br#"{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":"#);
    out.put_slice(metadata_of(json));
    out.put_u8(b'}');
}

/// One line of a table.
pub(crate) fn row(
    resource: &Resource,
    json: &[u8],
    value: &Value,
    include: IncludeObject,
    now: Timestamp,
) -> Result<Row, Status> {
    let object = resource.kind.decode_slice(json).map_err(Status::internal)?;
    Ok(Row::new(resource.kind.row(object.as_ref(), now), value, include))
}

/// Adds `Warning` headers, which `kubectl` prints: shortened where all together would be more than clients take.
pub(crate) fn warn(response: &mut Response, warnings: &[String]) {
    let total: usize = warnings.iter().map(String::len).sum();
    let most = if total > WARNINGS_CHARS {
        WARNING_CHARS
    } else {
        WARNINGS_CHARS
    };
    let mut left = WARNINGS_CHARS;
    for warning in warnings {
        let warning: String = warning.chars().take(most).collect();
        left = left.saturating_sub(warning.len());
        if left == 0 {
            return;
        }
        let mut text = String::with_capacity(warning.len() + 8);
        text.push_str("299 - \"");
        for c in warning.chars() {
            match c {
                '"' | '\\' => text.extend(['\\', c]),
                c if c.is_control() => text.push(' '),
                c => text.push(c),
            }
        }
        text.push('"');
        if let Ok(value) = HeaderValue::from_bytes(text.as_bytes()) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
}

/// Adds a `Warning` header before those that are there; one that says the same is not repeated.
pub(crate) fn warn_first(response: &mut Response, warning: String) {
    let headers = response.headers_mut();
    let others: Vec<HeaderValue> = match headers.entry(header::WARNING) {
        header::Entry::Occupied(entry) => entry.remove_entry_mult().1.collect(),
        header::Entry::Vacant(_) => Vec::new(),
    };
    warn(response, &[warning]);
    let headers = response.headers_mut();
    let first = headers.get(header::WARNING).cloned();
    for other in others.into_iter().filter(|other| Some(other) != first.as_ref()) {
        headers.append(header::WARNING, other);
    }
}

/// A whole answer in one piece.
pub(crate) fn respond(form: Form, status: StatusCode, json: Bytes) -> Result<Response, Status> {
    let body = translated(form.language, json)?;
    let length = body.len() as u64;
    let mut response = Response::new(Body::from(body));
    response.extensions_mut().insert(Compressible(length));
    *response.status_mut() = status;
    set_type(&mut response, form);
    Ok(response)
}

/// One object in the language of an answer.
pub(super) fn translated(language: Language, json: Bytes) -> Result<Bytes, Status> {
    match language {
        Language::Json => Ok(json),
        Language::Yaml => {
            let text = catamaran_api::yaml::to_string(&parse(&json)?).map_err(Status::internal)?;
            Ok(Bytes::from(text))
        }
        Language::Protobuf => protobuf::object(&json),
    }
}

fn set_type(response: &mut Response, form: Form) {
    if form.language == Language::Json {
        response.extensions_mut().insert(Indentable);
    }
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(form.content_type()));
}

fn list_metadata(list: &List) -> Value {
    let mut metadata = json!({});
    // What is not stored has no version.
    if list.revision > 0 {
        metadata["resourceVersion"] = json!(list.revision.to_string());
    }
    if !list.continue_token.is_empty() {
        metadata["continue"] = json!(list.continue_token);
    }
    if let Some(remaining) = list.remaining {
        metadata["remainingItemCount"] = json!(remaining);
    }
    metadata
}

fn trees(records: &[Arc<Record>]) -> Result<Vec<Value>, Status> {
    records.iter().map(|record| parse(&record.json())).collect()
}

pub(crate) fn parse(json: &[u8]) -> Result<Value, Status> {
    serde_json::from_slice(json).map_err(Status::internal)
}

pub(crate) fn to_bytes(value: &impl serde::Serialize) -> Result<Bytes, Status> {
    serde_json::to_vec(value).map(Bytes::from).map_err(Status::internal)
}
