//! What this server serves, in the two forms clients ask for: one document for everything (aggregated), or a tree of
//! small ones (legacy). Made once; kinds that appear at run time will make it anew.

use super::App;
use super::error::Failure;
use super::negotiate::{self, Form, Shape};
use super::reviews;
use crate::kinds::{Info, Subresource};
use crate::registry::resource::Resource;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use catamaran_api::Status;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;

/// Verbs of every collection, sorted.
const VERBS: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];

/// A document and the tag by which a client may ask whether it changed.
struct Document {
    json: Bytes,
    etag: HeaderValue,
}

/// All discovery documents.
pub(crate) struct Documents {
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

/// What one resource has to say.
struct Listed<'a> {
    name: &'a str,
    kind: &'a str,
    singular: &'a str,
    namespaced: bool,
    verbs: Vec<&'static str>,
    /// Names for short, categories, paths below: what only stored kinds have.
    info: Option<&'a Info>,
}

/// Resources by version by group.
type Groups<'a> = BTreeMap<&'a str, BTreeMap<&'a str, Vec<Listed<'a>>>>;

fn groups_of(resources: &[Arc<Resource>]) -> Groups<'_> {
    let mut groups = Groups::new();
    for resource in resources {
        let info = &resource.info;
        let versions = groups.entry(&info.group).or_default();
        versions.entry(&info.version).or_default().push(Listed {
            name: &info.plural,
            kind: &info.kind,
            singular: &info.singular,
            namespaced: info.namespaced,
            verbs: verbs(resource),
            info: Some(info),
        });
    }
    for review in reviews::ALL {
        let versions = groups.entry(review.group).or_default();
        versions.entry(reviews::VERSION).or_default().push(Listed {
            name: review.plural,
            kind: review.kind,
            singular: review.plural.trim_end_matches('s'),
            namespaced: review.namespaced,
            verbs: vec!["create"],
            info: None,
        });
    }
    groups
}

impl Documents {
    pub(crate) fn new(resources: &[Arc<Resource>]) -> Self {
        let groups = groups_of(resources);
        let mut version = HashMap::new();
        for (group, versions) in &groups {
            for (name, resources) in versions {
                let api_version = group_version(group, name);
                version.insert(api_version.clone(), document(&resource_list(&api_version, resources)));
            }
        }
        let named = || groups.iter().filter(|(group, _)| !group.is_empty());
        let group_values: Vec<Value> = named().map(|(group, versions)| api_group(group, versions)).collect();
        let group = named()
            .zip(&group_values)
            .map(|((group, _), value)| {
                let mut value = value.clone();
                value["kind"] = json!("APIGroup");
                value["apiVersion"] = json!("v1");
                ((*group).to_owned(), document(&value))
            })
            .collect();
        Documents {
            core: document(&json!({
                "kind": "APIVersions",
                "versions": ["v1"],
                "serverAddressByClientCIDRs": [],
            })),
            core_aggregated: document(&aggregated(groups.iter().filter(|(group, _)| group.is_empty()))),
            groups: document(&json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": group_values })),
            groups_aggregated: document(&aggregated(named())),
            group,
            version,
        }
    }

    /// The document of a group (`apps`) or a version (`v1`, `apps/v1`).
    pub(crate) fn below(&self, api_version: &str, headers: &HeaderMap) -> Response {
        match self.version.get(api_version).or_else(|| self.group.get(api_version)) {
            Some(document) => serve(document, Shape::Whole, headers),
            None => Failure(Status::unknown_path()).into_response(),
        }
    }
}

pub(super) async fn core(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    std::future::ready(either(&app.discovery.core, &app.discovery.core_aggregated, &headers)).await
}

pub(super) async fn groups(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    std::future::ready(either(
        &app.discovery.groups,
        &app.discovery.groups_aggregated,
        &headers,
    ))
    .await
}

fn either(plain: &Document, aggregated: &Document, headers: &HeaderMap) -> Response {
    match negotiate::accepted(headers, &[Shape::Discovery]) {
        Ok(Form {
            shape: Shape::Discovery,
            ..
        }) => serve(aggregated, Shape::Discovery, headers),
        Ok(_) => serve(plain, Shape::Whole, headers),
        Err(status) => Failure(status).into_response(),
    }
}

fn serve(document: &Document, shape: Shape, headers: &HeaderMap) -> Response {
    let form = Form {
        language: negotiate::Language::Json,
        shape,
    };
    let known = headers
        .get(header::IF_NONE_MATCH)
        .is_some_and(|tag| tag == document.etag);
    let mut response = Response::new(if known {
        axum::body::Body::empty()
    } else {
        document.json.clone().into()
    });
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let out = response.headers_mut();
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static(form.content_type()));
    out.insert(header::VARY, HeaderValue::from_static("Accept"));
    if shape == Shape::Discovery {
        out.insert(header::ETAG, document.etag.clone());
        out.insert(header::CACHE_CONTROL, HeaderValue::from_static("public"));
    }
    response
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

fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    }
}

fn api_group(group: &str, versions: &BTreeMap<&str, Vec<Listed<'_>>>) -> Value {
    let versions: Vec<Value> = versions
        .keys()
        .map(|version| json!({ "groupVersion": group_version(group, version), "version": version }))
        .collect();
    json!({ "name": group, "versions": versions, "preferredVersion": versions[0] })
}

fn resource_list(api_version: &str, resources: &[Listed<'_>]) -> Value {
    let mut list = Vec::new();
    for listed in resources {
        let mut entry = json!({
            "name": listed.name,
            "singularName": listed.singular,
            "namespaced": listed.namespaced,
            "kind": listed.kind,
            "verbs": listed.verbs,
        });
        let Some(info) = listed.info else {
            list.push(entry);
            continue;
        };
        entry["storageVersionHash"] = json!(hash(info));
        add_names(&mut entry, info);
        list.push(entry);
        for subresource in &info.subresources {
            list.push(json!({
                "name": format!("{}/{}", info.plural, subresource.name),
                "singularName": "",
                "namespaced": info.namespaced,
                "kind": kind_of(info, subresource),
                "verbs": subresource.verbs,
            }));
        }
    }
    json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api_version, "resources": list })
}

fn add_names(entry: &mut Value, info: &Info) {
    if !info.short_names.is_empty() {
        entry["shortNames"] = json!(info.short_names);
    }
    if !info.categories.is_empty() {
        entry["categories"] = json!(info.categories);
    }
}

fn aggregated<'a>(groups: impl Iterator<Item = (&'a &'a str, &'a BTreeMap<&'a str, Vec<Listed<'a>>>)>) -> Value {
    let items: Vec<Value> = groups
        .map(|(group, versions)| {
            let versions: Vec<Value> = versions
                .iter()
                .map(|(version, resources)| {
                    let resources: Vec<Value> = resources
                        .iter()
                        .map(|listed| aggregated_resource(group, version, listed))
                        .collect();
                    json!({ "version": version, "resources": resources, "freshness": "Current" })
                })
                .collect();
            json!({ "metadata": { "name": group, "creationTimestamp": null }, "versions": versions })
        })
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": items,
    })
}

fn aggregated_resource(group: &str, version: &str, listed: &Listed<'_>) -> Value {
    let response_kind = |kind: &str| json!({ "group": group, "version": version, "kind": kind });
    let mut entry = json!({
        "resource": listed.name,
        "responseKind": response_kind(listed.kind),
        "scope": if listed.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": listed.singular,
        "verbs": listed.verbs,
    });
    let Some(info) = listed.info else { return entry };
    add_names(&mut entry, info);
    if !info.subresources.is_empty() {
        entry["subresources"] = info
            .subresources
            .iter()
            .map(|subresource| {
                json!({
                    "subresource": subresource.name,
                    "responseKind": response_kind(kind_of(info, subresource)),
                    "verbs": subresource.verbs,
                })
            })
            .collect();
    }
    entry
}

/// A namespace is emptied before it goes, one by one: there is no deleting them all.
fn verbs(resource: &Resource) -> Vec<&'static str> {
    let is_namespace = resource.info.group.is_empty() && resource.info.kind == "Namespace";
    VERBS
        .iter()
        .copied()
        .filter(|verb| !(is_namespace && *verb == "deletecollection"))
        .collect()
}

fn kind_of<'a>(info: &'a Info, subresource: &'a Subresource) -> &'a str {
    if subresource.kind.is_empty() {
        &info.kind
    } else {
        subresource.kind
    }
}

fn hash(info: &Info) -> String {
    use base64::Engine as _;
    let digest = Sha256::digest(format!("{}/{}/{}", info.group, info.version, info.kind));
    base64::engine::general_purpose::STANDARD.encode(&digest[..8])
}
