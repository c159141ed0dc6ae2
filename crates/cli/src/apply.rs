//! Manifests in, objects out: what `cata apply`, `cata create` and `cata dev -f` share.

use anyhow::{Context, Result, bail};
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::discovery::{ApiCapabilities, ApiResource, Scope};
use kube::{Api, Client, ResourceExt};
use serde::Deserialize;
use std::fmt;

/// What became of one object.
#[derive(Debug)]
pub(crate) struct Applied {
    /// `pod`, `deployment.apps`: as kubectl names it.
    pub(crate) resource: String,
    pub(crate) kind: String,
    pub(crate) namespace: Option<String>,
    pub(crate) name: String,
    pub(crate) verb: &'static str,
}

impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} {}", self.resource, self.name, self.verb)
    }
}

/// Applies every document of a YAML (or JSON) text.
///
/// # Errors
/// The first document that cannot be read or that the server refuses, named.
pub(crate) async fn apply_text(client: &Client, text: &str, default_namespace: &str) -> Result<Vec<Applied>> {
    let mut outcomes = Vec::new();
    for object in parse(text)? {
        outcomes.push(apply_object(client, object, default_namespace).await?);
    }
    Ok(outcomes)
}

/// The objects of a text, `List`s opened. Empty documents are skipped.
pub(crate) fn parse(text: &str) -> Result<Vec<DynamicObject>> {
    let mut objects = Vec::new();
    for (index, document) in serde_yaml::Deserializer::from_str(text).enumerate() {
        let value = serde_json::Value::deserialize(document)
            .with_context(|| format!("document {} is not valid YAML", index + 1))?;
        if value.is_null() {
            continue;
        }
        let items = match value.get("items").and_then(|items| items.as_array()) {
            Some(items) if value["kind"].as_str().is_some_and(|kind| kind.ends_with("List")) => items.clone(),
            _ => vec![value],
        };
        for item in items {
            let object: DynamicObject = serde_json::from_value(item)
                .with_context(|| format!("document {} is not a Kubernetes object", index + 1))?;
            if object.types.is_none() {
                bail!("document {} has no apiVersion and kind", index + 1);
            }
            objects.push(object);
        }
    }
    Ok(objects)
}

/// The API of an object's kind, by discovery, in the namespace it (or the default) names.
pub(crate) async fn api_for(
    client: &Client,
    object: &DynamicObject,
    default_namespace: &str,
) -> Result<(Api<DynamicObject>, ApiResource, ApiCapabilities)> {
    let types = object.types.as_ref().context("the object has no apiVersion and kind")?;
    let gvk = kube::core::GroupVersionKind::try_from(types).context("apiVersion cannot be read")?;
    let (resource, capabilities) = kube::discovery::pinned_kind(client, &gvk).await.map_err(|error| match error {
        kube::Error::Discovery(_) => {
            anyhow::anyhow!("no matches for kind {:?} in version {:?}; see `cata api-resources`", types.kind, types.api_version)
        }
        kube::Error::Api(status) if status.code == 404 => {
            anyhow::anyhow!("no matches for kind {:?} in version {:?}; see `cata api-resources`", types.kind, types.api_version)
        }
        other => anyhow::Error::new(other).context("cannot ask the server for its kinds"),
    })?;
    let api = match capabilities.scope {
        Scope::Cluster => Api::all_with(client.clone(), &resource),
        Scope::Namespaced => {
            let namespace = object.metadata.namespace.as_deref().unwrap_or(default_namespace);
            Api::namespaced_with(client.clone(), namespace, &resource)
        }
    };
    Ok((api, resource, capabilities))
}

async fn apply_object(client: &Client, object: DynamicObject, default_namespace: &str) -> Result<Applied> {
    let (api, resource, capabilities) = api_for(client, &object, default_namespace).await?;
    let name = object.name_any();
    let named = if resource.group.is_empty() {
        resource.kind.to_lowercase()
    } else {
        format!("{}.{}", resource.kind.to_lowercase(), resource.group)
    };
    let describe = || format!("{named}/{name}");
    let before = api.get_opt(&name).await.with_context(describe)?;
    let verb = match &before {
        None => {
            api.create(&PostParams::default(), &object).await.with_context(describe)?;
            "created"
        }
        Some(before) => {
            let patch = Patch::Merge(&object);
            let after = api.patch(&name, &PatchParams::default(), &patch).await.with_context(describe)?;
            if after.resource_version() == before.resource_version() { "unchanged" } else { "configured" }
        }
    };
    let namespace = (capabilities.scope == Scope::Namespaced)
        .then(|| object.metadata.namespace.clone().unwrap_or_else(|| default_namespace.to_owned()));
    Ok(Applied { resource: named, kind: resource.kind, namespace, name, verb })
}
