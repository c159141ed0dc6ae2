//! Client-side apply: what `cata apply` and `cata dev -f` share.
//!
//! The manifest is kept in the annotation kubectl keeps it in, so that both programs can take turns on one object. What
//! the manifest had and has no more is removed; what others set stays: a three-way merge of last applied, new and current.
//! <https://kubernetes.io/docs/tasks/manage-kubernetes-objects/declarative-config/>

use crate::client::discovery::Catalogue;
use crate::client::{Connection, explain, is_not_found};
use anyhow::{Context, Result};
use catamaran_api::patch::{merge, strategic};
use catamaran_api::schema::Schemas;
use http::Method;
use serde_json::{Map, Value, json};
use std::fmt;

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Another writer may come between reading and patching; each round starts from what it left.
const CONFLICT_ROUNDS: usize = 5;

/// What became of one object.
#[derive(Debug)]
pub(crate) struct Applied {
    /// `pod`, `deployment.apps`: as kubectl names it.
    pub(crate) resource: String,
    pub(crate) kind: String,
    pub(crate) namespace: Option<String>,
    pub(crate) name: String,
    pub(crate) verb: &'static str,
    /// The object as the server has it now.
    pub(crate) object: Value,
}

impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} {}", self.resource, self.name, self.verb)
    }
}

/// Who only checks, and changes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum DryRun {
    #[default]
    None,
    /// This program sends nothing that would change an object.
    Client,
    /// The server does everything but keep the result.
    Server,
}

impl DryRun {
    /// What kubectl appends to its messages.
    pub(crate) fn mark(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Client => " (dry run)",
            Self::Server => " (server dry run)",
        }
    }
}

/// How to apply.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Options {
    pub(crate) dry_run: DryRun,
    /// `Strict`, `Warn` or `Ignore` for fields the server does not know.
    pub(crate) validation: Option<&'static str>,
}

impl Options {
    fn query(self) -> String {
        let mut pairs = vec![("fieldManager", "cata-client-side-apply")];
        pairs.push(("fieldValidation", self.validation.unwrap_or("Strict")));
        if self.dry_run == DryRun::Server {
            pairs.push(("dryRun", "All"));
        }
        crate::client::query_string(&pairs)
    }
}

/// Makes the server's object what the manifest says.
///
/// # Errors
/// An unknown kind, or the server's refusal, with the object named.
pub(crate) async fn apply(
    connection: &Connection,
    catalogue: &Catalogue,
    manifest: &Value,
    options: Options,
) -> Result<Applied> {
    let kind = manifest["kind"].as_str().unwrap_or_default();
    let resource = catalogue.by_kind(manifest["apiVersion"].as_str().unwrap_or_default(), kind)?;
    let name = manifest["metadata"]["name"]
        .as_str()
        .with_context(|| format!("a {kind} has no metadata.name; apply needs one (create takes generateName)"))?;
    let namespace = connection.namespace_of(manifest)?;
    let collection = resource.path(Some(namespace));
    let modified = annotated(manifest)?;
    let named = format!("{}/{name}", resource.qualified_singular());
    let outcome = write(connection, &collection, name, &modified, options).await;
    let (verb, object) =
        outcome.map_err(|error| explain(error, &connection.server).context(format!("cannot apply {named}")))?;
    Ok(Applied {
        resource: resource.qualified_singular(),
        kind: kind.to_owned(),
        namespace: resource.namespaced.then(|| namespace.to_owned()),
        name: name.to_owned(),
        verb,
        object,
    })
}

async fn write(
    connection: &Connection,
    collection: &str,
    name: &str,
    modified: &Value,
    options: Options,
) -> Result<(&'static str, Value), kube::Error> {
    let query = options.query();
    let path = format!("{collection}/{name}");
    let mut round = 0;
    loop {
        round += 1;
        let current = match connection.send(Method::GET, &path, "application/json", None).await {
            Ok(current) => current,
            Err(error) if is_not_found(&error) && options.dry_run == DryRun::Client => {
                return Ok(("created", modified.clone()));
            }
            Err(error) if is_not_found(&error) => {
                let create = format!("{collection}?{query}");
                match connection
                    .send(Method::POST, &create, "application/json", Some(modified))
                    .await
                {
                    Ok(object) => return Ok(("created", object)),
                    Err(error) if is_conflict(&error) && round < CONFLICT_ROUNDS => continue,
                    Err(error) => return Err(error),
                }
            }
            Err(error) => return Err(error),
        };
        if round == 1 && current["metadata"]["annotations"][LAST_APPLIED].is_null() {
            warn_of_first_apply(&path, name);
        }
        let (content_type, patch) = patch_for(modified, &current);
        if patch.as_object().is_some_and(Map::is_empty) {
            return Ok(("unchanged", current));
        }
        if options.dry_run == DryRun::Client {
            return Ok(("configured", current));
        }
        match connection
            .send(Method::PATCH, &format!("{path}?{query}"), content_type, Some(&patch))
            .await
        {
            Ok(object) => {
                let same = object["metadata"]["resourceVersion"] == current["metadata"]["resourceVersion"];
                return Ok((
                    if same && options.dry_run == DryRun::None {
                        "unchanged"
                    } else {
                        "configured"
                    },
                    object,
                ));
            }
            Err(error) if is_conflict(&error) && round < CONFLICT_ROUNDS => {}
            Err(error) => return Err(error),
        }
    }
}

/// What an object that was made otherwise has, and its manifest has not, stays as it is: better said than found out.
fn warn_of_first_apply(path: &str, name: &str) {
    let plural = path.rsplit('/').nth(1).unwrap_or_default();
    eprintln!(
        "Warning: resource {plural}/{name} is missing the {LAST_APPLIED} annotation which is required by cata apply. \
         The missing annotation will be patched automatically; fields the manifest does not mention stay as they are."
    );
}

fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

/// The manifest with itself in the annotation.
fn annotated(manifest: &Value) -> Result<Value> {
    let mut bare = manifest.clone();
    if let Some(annotations) = bare.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.remove(LAST_APPLIED);
    }
    let mut modified = bare.clone();
    let metadata = modified["metadata"]
        .as_object_mut()
        .context("a manifest has no metadata")?;
    let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
    if annotations.is_null() {
        *annotations = json!({});
    }
    annotations[LAST_APPLIED] = Value::String(format!("{bare}\n"));
    Ok(modified)
}

fn last_applied(current: &Value) -> Value {
    let text = current["metadata"]["annotations"][LAST_APPLIED].as_str();
    text.and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_else(|| json!({}))
}

/// What to send so that `current` becomes what `modified` says, and in which patch language: strategic merge for kinds
/// whose schema this program knows (it merges lists by key), merge patch for custom ones.
fn patch_for(modified: &Value, current: &Value) -> (&'static str, Value) {
    let empty = Map::new();
    let last = last_applied(current);
    let [last, wanted, now] = [&last, modified, current].map(|value| value.as_object().unwrap_or(&empty));
    let (version, kind) = (modified["apiVersion"].as_str(), modified["kind"].as_str());
    match Schemas::builtin().node_of_kind(version.unwrap_or_default(), kind.unwrap_or_default()) {
        Some(node) => (
            "application/strategic-merge-patch+json",
            Value::Object(strategic::three_way(last, wanted, now, Some(node))),
        ),
        None => (
            "application/merge-patch+json",
            Value::Object(merge::three_way(last, wanted, now)),
        ),
    }
}
