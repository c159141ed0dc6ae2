//! What this server serves, in the two forms clients ask for: one document for everything (aggregated), or a tree of
//! small ones (legacy).
//!
//! The documents are made when somebody asks, and made anew when kinds were defined or taken away, or when a server behind an
//! APIService came or went; until then they are bytes that are copied.
//! <https://kubernetes.io/docs/concepts/overview/kubernetes-api/#discovery-api>

mod aggregated;
mod groups;
mod legacy;

use super::App;
use super::error::Failure;
use super::negotiate::{self, Form, Offer, Shape};
use super::present::Indentable;
use super::render;
use crate::aggregator::Remotes;
use crate::registry::Table;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use catamaran_api::Status;
use groups::{Content, Groups};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

pub(crate) use groups::priorities;

/// A document and the tag by which a client may ask whether it changed.
struct Document {
    json: Bytes,
    etag: HeaderValue,
}

/// All discovery documents of one moment.
pub(crate) struct Documents {
    /// Generations of what they were made of: the table, and other servers.
    made_of: (u64, u64),
    /// `/api`.
    core: Document,
    core_aggregated: Document,
    /// `/apis`.
    groups: Document,
    groups_aggregated: Document,
    /// `/apis/<group>`.
    group: HashMap<String, Document>,
    /// `/api/v1`, `/apis/<group>/<version>`.
    version: HashMap<String, Document>,
}

/// The documents of the moment, if somebody asked for them.
#[derive(Default)]
pub(crate) struct Cache(Mutex<Option<Arc<Documents>>>);

impl Cache {
    pub(crate) fn documents(&self, table: &Table, remotes: &Remotes) -> Arc<Documents> {
        let wanted = (table.generation, remotes.generation);
        let mut cached = self.0.lock();
        if let Some(documents) = cached.as_ref().filter(|documents| documents.made_of == wanted) {
            return Arc::clone(documents);
        }
        let documents = Arc::new(Documents::new(table, remotes));
        *cached = Some(Arc::clone(&documents));
        documents
    }
}

impl Documents {
    fn new(table: &Table, remotes: &Remotes) -> Self {
        let groups = Groups::of(table.resources(), remotes);
        let mut version = HashMap::new();
        let mut group = HashMap::new();
        for one in groups.all() {
            for own in &one.versions {
                if let Content::Local(resources) = &own.content {
                    let api_version = groups::api_version(&one.name, &own.name);
                    let list = legacy::resource_list(&api_version, resources);
                    version.insert(api_version, document(&list));
                }
            }
            if !one.name.is_empty() {
                let mut value = legacy::group(one);
                value["kind"] = json!("APIGroup");
                value["apiVersion"] = json!("v1");
                group.insert(one.name.clone(), document(&value));
            }
        }
        let list: Vec<Value> = groups.named().map(legacy::group).collect();
        Documents {
            made_of: (table.generation, remotes.generation),
            core: document(&json!({
                "kind": "APIVersions",
                "versions": ["v1"],
                "serverAddressByClientCIDRs": [],
            })),
            core_aggregated: document(&aggregated::list(groups.core())),
            groups: document(&json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": list })),
            groups_aggregated: document(&aggregated::list(groups.named())),
            group,
            version,
        }
    }

    /// The document of a group (`apps`) or a version (`v1`, `apps/v1`).
    pub(crate) fn below(&self, api_version: &str, headers: &HeaderMap) -> Response {
        let document = self.version.get(api_version).or_else(|| self.group.get(api_version));
        document
            .ok_or_else(Status::unknown_path)
            .and_then(|document| serve(document, negotiate::accepted(headers, Offer::PLAIN)?, headers))
            .unwrap_or_else(|status| Failure(status).into_response())
    }
}

pub(super) async fn core(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let documents = app.discovery();
    std::future::ready(either(&documents.core, &documents.core_aggregated, &headers)).await
}

pub(super) async fn groups(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let documents = app.discovery();
    std::future::ready(either(&documents.groups, &documents.groups_aggregated, &headers)).await
}

fn either(plain: &Document, aggregated: &Document, headers: &HeaderMap) -> Response {
    let answer = negotiate::accepted(headers, Offer::DISCOVERY).and_then(|form| {
        let document = if form.shape == Shape::Discovery {
            aggregated
        } else {
            plain
        };
        serve(document, form, headers)
    });
    answer.unwrap_or_else(|status| Failure(status).into_response())
}

fn serve(document: &Document, form: Form, headers: &HeaderMap) -> Result<Response, Status> {
    let known = headers
        .get(header::IF_NONE_MATCH)
        .is_some_and(|tag| tag == document.etag);
    let mut response = Response::new(if known {
        axum::body::Body::empty()
    } else {
        render::translated(form.language, document.json.clone())?.into()
    });
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    } else if form.language == negotiate::Language::Json {
        response.extensions_mut().insert(Indentable);
    }
    let out = response.headers_mut();
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static(form.content_type()));
    out.insert(header::VARY, HeaderValue::from_static("Accept"));
    if form.shape == Shape::Discovery {
        out.insert(header::ETAG, document.etag.clone());
        out.insert(header::CACHE_CONTROL, HeaderValue::from_static("public"));
    }
    Ok(response)
}

fn document(value: &Value) -> Document {
    let json = Bytes::from(value.to_string());
    let mut tag = String::from("\"");
    for byte in Sha256::digest(&json) {
        let _ = write!(tag, "{byte:02X}");
    }
    tag.push('"');
    Document {
        json,
        etag: HeaderValue::from_str(&tag).expect("hexadecimal digits are a header value"),
    }
}

#[cfg(test)]
mod tests;
