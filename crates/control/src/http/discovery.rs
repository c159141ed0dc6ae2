//! What this server serves, in the two forms clients ask for: one document for everything (aggregated), or a tree of
//! small ones (legacy).
//!
//! The documents are made when somebody asks, and made anew when kinds were defined or taken away, or when a server behind an
//! APIService came or went; until then they are bytes that are copied.
//! <https://kubernetes.io/docs/concepts/overview/kubernetes-api/#discovery-api>

mod aggregated;
pub(crate) mod groups;
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
use std::sync::{Arc, OnceLock};

pub(crate) use groups::priorities;

/// A document and the tag by which a client may ask whether it changed.
struct Document {
    json: Bytes,
    etag: HeaderValue,
}

/// All discovery documents of one moment. Each is written when somebody asks for it first: where kinds come one after another,
/// those who look at one group do not pay for the others.
pub(crate) struct Documents {
    /// Generations of what they were made of: the table, and other servers.
    made_of: (u64, u64),
    groups: Groups,
    /// `/api`.
    core: OnceLock<Document>,
    core_aggregated: OnceLock<Document>,
    /// `/apis`.
    named: OnceLock<Document>,
    named_aggregated: OnceLock<Document>,
    /// `/apis/<group>`, `/api/v1`, `/apis/<group>/<version>`.
    below: Mutex<HashMap<String, Arc<Document>>>,
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
        Documents {
            made_of: (table.generation, remotes.generation),
            groups: Groups::of(table.resources(), remotes),
            core: OnceLock::new(),
            core_aggregated: OnceLock::new(),
            named: OnceLock::new(),
            named_aggregated: OnceLock::new(),
            below: Mutex::default(),
        }
    }

    fn core(&self) -> &Document {
        self.core.get_or_init(|| {
            document(&json!({
                "kind": "APIVersions",
                "versions": ["v1"],
                "serverAddressByClientCIDRs": [],
            }))
        })
    }

    fn core_aggregated(&self) -> &Document {
        self.core_aggregated
            .get_or_init(|| document(&aggregated::list(self.groups.core())))
    }

    fn named(&self) -> &Document {
        self.named.get_or_init(|| {
            let list: Vec<Value> = self.groups.named().map(legacy::group).collect();
            document(&json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": list }))
        })
    }

    fn named_aggregated(&self) -> &Document {
        self.named_aggregated
            .get_or_init(|| document(&aggregated::list(self.groups.named())))
    }

    /// Where groups and versions are.
    pub(crate) fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        for group in self.groups.all() {
            if group.name.is_empty() {
                paths.extend(group.versions.iter().map(|version| format!("/api/{}", version.name)));
                continue;
            }
            let root = format!("/apis/{}", group.name);
            paths.extend(group.versions.iter().map(|version| format!("{root}/{}", version.name)));
            paths.push(root);
        }
        paths
    }

    /// The document of a group (`apps`) or a version (`v1`, `apps/v1`).
    pub(crate) fn below(&self, api_version: &str, headers: &HeaderMap) -> Option<Response> {
        let document = self.document_below(api_version)?;
        let answer = negotiate::accepted(headers, Offer::PLAIN).and_then(|form| serve(&document, form, headers));
        Some(answer.unwrap_or_else(|status| Failure(status).into_response()))
    }

    fn document_below(&self, api_version: &str) -> Option<Arc<Document>> {
        let mut below = self.below.lock();
        if let Some(document) = below.get(api_version) {
            return Some(Arc::clone(document));
        }
        let made = Arc::new(document(&self.describe(api_version)?));
        below.insert(api_version.to_owned(), Arc::clone(&made));
        Some(made)
    }

    fn describe(&self, api_version: &str) -> Option<Value> {
        for one in self.groups.all() {
            if !one.name.is_empty() && one.name == api_version {
                let mut value = legacy::group(one);
                value["kind"] = json!("APIGroup");
                value["apiVersion"] = json!("v1");
                return Some(value);
            }
            for own in &one.versions {
                if let Content::Local(resources) = &own.content
                    && groups::api_version(&one.name, &own.name) == api_version
                {
                    return Some(legacy::resource_list(api_version, resources));
                }
            }
        }
        None
    }
}

pub(super) async fn core(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let documents = app.discovery();
    std::future::ready(either(|| documents.core(), || documents.core_aggregated(), &headers)).await
}

pub(super) async fn groups(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let documents = app.discovery();
    std::future::ready(either(|| documents.named(), || documents.named_aggregated(), &headers)).await
}

fn either<'d>(
    plain: impl FnOnce() -> &'d Document,
    aggregated: impl FnOnce() -> &'d Document,
    headers: &HeaderMap,
) -> Response {
    let answer = negotiate::accepted(headers, Offer::DISCOVERY).and_then(|form| {
        let document = if form.shape == Shape::Discovery {
            aggregated()
        } else {
            plain()
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
