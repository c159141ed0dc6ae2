//! From records to the bytes of an answer, in the form the client asked for.

use super::negotiate::{Form, Language, Shape};
use crate::registry::resource::Resource;
use crate::registry::{List, Written};
use crate::watch_cache::Record;
use axum::body::Body;
use axum::response::Response;
use bytes::{BufMut, Bytes, BytesMut};
use catamaran_api::Status;
use catamaran_api::table::{IncludeObject, Row, Table, partial_metadata};
use http::{HeaderValue, StatusCode, header};
use http_body::{Frame, SizeHint};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Size of the pieces a long list is sent in.
const CHUNK: usize = 64 << 10;

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
            let version = value.pointer("/metadata/resourceVersion").cloned().unwrap_or_default();
            let row = row(resource, &json, &value, style.include, Timestamp::now())?;
            to_bytes(&Table::new(
                json!({ "resourceVersion": version }),
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
pub(crate) fn list(resource: &Resource, style: Style, list: &List) -> Result<Response, Status> {
    let metadata = list_metadata(list);
    match (style.form.shape, style.form.language) {
        (Shape::Whole | Shape::Discovery, Language::Json) => {
            let kind = format!("{}List", resource.info.kind);
            let head = format!(
                r#"{{"kind":"{kind}","apiVersion":"{}","metadata":{metadata},"items":["#,
                resource.api_version
            );
            let items = list.records.iter().map(|record| record.json()).collect();
            let mut response = Response::new(Body::new(Joined::new(head.into_bytes(), items)));
            set_type(&mut response, style.form);
            Ok(response)
        }
        (Shape::Whole | Shape::Discovery, Language::Yaml) => {
            let items = trees(&list.records)?;
            let kind = format!("{}List", resource.info.kind);
            let value =
                json!({ "kind": kind, "apiVersion": resource.api_version, "metadata": metadata, "items": items });
            respond(style.form, StatusCode::OK, to_bytes(&value)?)
        }
        (Shape::PartialMetadata, _) => {
            let items: Vec<Value> = trees(&list.records)?.iter().map(partial_metadata).collect();
            let value = json!({
                "kind": "PartialObjectMetadataList",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": metadata,
                "items": items,
            });
            respond(style.form, StatusCode::OK, to_bytes(&value)?)
        }
        (Shape::Table, _) => {
            let now = Timestamp::now();
            let rows: Vec<Row> = list
                .records
                .iter()
                .map(|record| {
                    let json = record.json();
                    row(resource, &json, &parse(&json)?, style.include, now)
                })
                .collect::<Result<_, Status>>()?;
            let table = Table::new(metadata, resource.kind.columns(), rows);
            respond(style.form, StatusCode::OK, to_bytes(&table)?)
        }
    }
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

/// A whole answer in one piece.
pub(crate) fn respond(form: Form, status: StatusCode, json: Bytes) -> Result<Response, Status> {
    let body = match form.language {
        Language::Json => json,
        Language::Yaml => {
            let text = catamaran_api::yaml::to_string(&parse(&json)?).map_err(Status::internal)?;
            Bytes::from(text)
        }
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    set_type(&mut response, form);
    Ok(response)
}

fn set_type(response: &mut Response, form: Form) {
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(form.content_type()));
}

fn list_metadata(list: &List) -> Value {
    let mut metadata = json!({ "resourceVersion": list.revision.to_string() });
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

/// The body of a list: shared bytes, copied piece by piece as the connection takes them.
struct Joined {
    head: Vec<u8>,
    items: VecDeque<Bytes>,
    started: bool,
    done: bool,
    left: u64,
}

const END: &[u8] = b"]}\n";

impl Joined {
    fn new(head: Vec<u8>, items: VecDeque<Bytes>) -> Self {
        let bytes: usize = items.iter().map(Bytes::len).sum();
        let left = (head.len() + bytes + items.len().saturating_sub(1) + END.len()) as u64;
        Joined {
            head,
            items,
            started: false,
            done: false,
            left,
        }
    }
}

impl http_body::Body for Joined {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        if this.done {
            return Poll::Ready(None);
        }
        let capacity = usize::try_from(this.left).unwrap_or(usize::MAX).min(CHUNK + CHUNK / 4);
        let mut chunk = BytesMut::with_capacity(capacity);
        if !this.head.is_empty() {
            chunk.put_slice(&std::mem::take(&mut this.head));
        }
        while chunk.len() < CHUNK {
            let Some(item) = this.items.pop_front() else {
                chunk.put_slice(END);
                this.done = true;
                break;
            };
            if this.started {
                chunk.put_u8(b',');
            }
            this.started = true;
            chunk.put_slice(&item);
        }
        this.left -= chunk.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(chunk.freeze()))))
    }

    fn is_end_stream(&self) -> bool {
        self.done
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
