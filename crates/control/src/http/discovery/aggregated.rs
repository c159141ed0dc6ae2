//! Everything in one document: `APIGroupDiscoveryList`.

use super::groups::{Content, Group, Listed, Stored, Version};
use super::legacy::{add_names, kind_of, type_of};
use crate::kinds::{Info, Subresource};
use serde_json::{Value, json};

pub(super) fn list<'a>(groups: impl Iterator<Item = &'a Group>) -> Value {
    let items: Vec<Value> = groups
        .map(|group| {
            let versions: Vec<Value> = group.versions.iter().map(version).collect();
            json!({ "metadata": { "name": group.name }, "versions": versions })
        })
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": items,
    })
}

/// What another server serves is as it said last, and out of date while it does not answer.
fn version(version: &Version) -> Value {
    match &version.content {
        Content::Local(resources) => {
            let resources: Vec<Value> = resources.iter().map(resource).collect();
            json!({ "version": version.name, "resources": resources, "freshness": "Current" })
        }
        Content::Remote(remote) => {
            let freshness = if remote.current { "Current" } else { "Stale" };
            let mut value = json!({ "version": version.name, "freshness": freshness });
            if let Some(resources) = &remote.resources {
                value["resources"] = resources.as_ref().clone();
            }
            value
        }
    }
}

/// Group and version of a type are left out where they are those around it.
fn response_kind(kind: &str, group: &str, version: &str) -> Value {
    json!({ "group": group, "version": version, "kind": kind })
}

fn resource(listed: &Listed) -> Value {
    let mut entry = json!({
        "resource": listed.name,
        "responseKind": response_kind(&listed.kind, "", ""),
        "scope": if listed.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": listed.singular,
        "verbs": listed.verbs,
    });
    let Some(Stored { info, .. }) = &listed.stored else {
        return entry;
    };
    add_names(&mut entry, info);
    if !info.subresources.is_empty() {
        let mut below: Vec<&Subresource> = info.subresources.iter().collect();
        below.sort_by_key(|subresource| subresource.name);
        entry["subresources"] = below.into_iter().map(|below| subresource(info, below)).collect();
    }
    entry
}

fn subresource(info: &Info, subresource: &Subresource) -> Value {
    let (group, version) = type_of(subresource).unwrap_or_default();
    json!({
        "subresource": subresource.name,
        "responseKind": response_kind(kind_of(info, subresource), group, version),
        "verbs": subresource.verbs,
    })
}
