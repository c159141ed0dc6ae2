//! The tree of small documents.

use super::groups::{Group, Listed, Stored, api_version};
use crate::kinds::{Info, Subresource};
use catamaran_api::GroupVersionKind;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// An `APIGroup`, as it stands in a list.
pub(super) fn group(group: &Group) -> Value {
    let versions: Vec<Value> = group
        .versions
        .iter()
        .map(|version| json!({ "groupVersion": api_version(&group.name, &version.name), "version": version.name }))
        .collect();
    json!({ "name": group.name, "versions": versions, "preferredVersion": versions[0] })
}

/// An `APIResourceList`.
pub(super) fn resource_list(api_version: &str, resources: &[Listed]) -> Value {
    let mut list = Vec::new();
    for listed in resources {
        let mut entry = json!({
            "name": listed.name,
            "singularName": listed.singular,
            "namespaced": listed.namespaced,
            "kind": listed.kind,
            "verbs": listed.verbs,
        });
        let Some(Stored { info, storage }) = &listed.stored else {
            list.push(entry);
            continue;
        };
        entry["storageVersionHash"] = json!(storage_version_hash(storage));
        add_names(&mut entry, info);
        list.push(entry);
        let mut below: Vec<&Subresource> = info.subresources.iter().collect();
        below.sort_by_key(|subresource| subresource.name);
        list.extend(below.into_iter().map(|subresource| below_entry(info, subresource)));
    }
    json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api_version, "resources": list })
}

fn below_entry(info: &Info, subresource: &Subresource) -> Value {
    let mut entry = json!({
        "name": format!("{}/{}", info.plural, subresource.name),
        "singularName": "",
        "namespaced": info.namespaced,
        "kind": kind_of(info, subresource),
        "verbs": subresource.verbs,
    });
    if let Some((group, version)) = type_of(subresource) {
        entry["group"] = json!(group);
        entry["version"] = json!(version);
    }
    entry
}

pub(super) fn add_names(entry: &mut Value, info: &Info) {
    if !info.short_names.is_empty() {
        entry["shortNames"] = json!(info.short_names);
    }
    if !info.categories.is_empty() {
        entry["categories"] = json!(info.categories);
    }
}

pub(super) fn kind_of<'a>(info: &'a Info, subresource: &'a Subresource) -> &'a str {
    if subresource.kind.is_empty() {
        &info.kind
    } else {
        subresource.kind
    }
}

/// Group and version of a subresource's own type.
pub(super) fn type_of(subresource: &Subresource) -> Option<(&'static str, &'static str)> {
    let api_version = subresource.api_version;
    (!api_version.is_empty()).then(|| api_version.split_once('/').unwrap_or(("", api_version)))
}

/// By which clients see that objects are kept in another version than before.
pub(super) fn storage_version_hash(storage: &GroupVersionKind) -> String {
    use base64::Engine as _;
    let digest = Sha256::digest(format!("{}/{}/{}", storage.group, storage.version, storage.kind));
    base64::engine::general_purpose::STANDARD.encode(&digest[..8])
}
