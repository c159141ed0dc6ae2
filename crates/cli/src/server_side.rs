//! Server-side apply: the manifest goes to the server as it is, which knows who owns what.
//! <https://kubernetes.io/docs/reference/using-api/server-side-apply/>

use crate::apply::{Applied, DryRun, Options};
use crate::client::discovery::Catalogue;
use crate::client::{Connection, explain, query_string};
use anyhow::{Context, Result};
use http::Method;
use serde_json::Value;

/// What becomes of fields that others own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ownership<'a> {
    /// The name under which this program owns what it applies.
    pub(crate) manager: &'a str,
    /// Take over fields that others own.
    pub(crate) force: bool,
}

/// Has the server apply a manifest.
///
/// # Errors
/// An unknown kind, fields that others own, or another refusal, with the object named.
pub(crate) async fn apply(
    connection: &Connection,
    catalogue: &Catalogue,
    manifest: &Value,
    options: Options,
    ownership: Ownership<'_>,
) -> Result<Applied> {
    let kind = manifest["kind"].as_str().unwrap_or_default();
    let resource = catalogue.by_kind(manifest["apiVersion"].as_str().unwrap_or_default(), kind)?;
    let name = manifest["metadata"]["name"]
        .as_str()
        .with_context(|| format!("a {kind} has no metadata.name; server-side apply needs one"))?;
    let namespace = connection.namespace_of(manifest)?;
    let force = if ownership.force { "true" } else { "false" };
    let mut pairs = vec![
        ("fieldManager", ownership.manager),
        ("fieldValidation", options.validation.unwrap_or("Strict")),
        ("force", force),
    ];
    if options.dry_run == DryRun::Server {
        pairs.push(("dryRun", "All"));
    }
    let path = format!("{}/{name}?{}", resource.path(Some(namespace)), query_string(&pairs));
    let named = format!("{}/{name}", resource.qualified_singular());
    let sent = connection
        .send(Method::PATCH, &path, "application/apply-patch+yaml", Some(manifest))
        .await;
    let object = sent.map_err(|error| {
        let hint = if is_about_owners(&error) { OWNERS_HINT } else { "" };
        explain(error, &connection.server).context(format!("cannot apply {named}{hint}"))
    })?;
    Ok(Applied {
        resource: resource.qualified_singular(),
        kind: kind.to_owned(),
        namespace: resource.namespaced.then(|| namespace.to_owned()),
        name: name.to_owned(),
        verb: "serverside-applied",
        object,
    })
}

/// What can be done about fields that others own.
const OWNERS_HINT: &str = " (others own fields of it: take them over with --force-conflicts, leave them out of the manifest, or give \
                           them the values they have)";

fn is_about_owners(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes.into_iter().any(|cause| cause.reason == "FieldManagerConflict")
}
