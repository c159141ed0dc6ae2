//! What the words after a verb refer to: `pod a b`, `pods,configmaps`, `pod/a cm/b`, and the objects of manifests.

use super::Connection;
use super::discovery::{Catalogue, Resource};
use anyhow::{Context, Result, bail};
use serde_json::Value;

/// A kind, and the names asked for; no name means all of them.
#[derive(Debug)]
pub(crate) struct Target<'a> {
    pub(crate) resource: &'a Resource,
    pub(crate) names: Vec<String>,
    /// Where a manifest places the object; words leave it to the connection.
    pub(crate) namespace: Option<String>,
}

/// Reads kubectl's positional arguments.
///
/// # Errors
/// An unknown kind, a name without a kind, or the two notations mixed.
pub(crate) fn targets<'a>(catalogue: &'a Catalogue, words: &[String]) -> Result<Vec<Target<'a>>> {
    let Some((first, names)) = words.split_first() else {
        bail!("you must specify the type of resource; see `cata api-resources`");
    };
    if words.iter().any(|word| word.contains('/')) {
        let mut targets = Vec::new();
        for word in words {
            join(&mut targets, slashed(catalogue, word)?);
        }
        return Ok(targets);
    }
    let mut targets = Vec::new();
    for word in first.split(',') {
        let category = catalogue.category(word);
        let resources = if category.is_empty() {
            vec![catalogue.find(word)?]
        } else {
            category
        };
        targets.extend(resources.into_iter().map(|resource| Target {
            resource,
            names: names.to_vec(),
            namespace: None,
        }));
    }
    Ok(targets)
}

/// The objects that manifests describe.
///
/// # Errors
/// An unknown kind, or an object without a name.
pub(crate) fn manifest_targets<'a>(
    catalogue: &'a Catalogue,
    connection: &Connection,
    objects: &[Value],
) -> Result<Vec<Target<'a>>> {
    let mut targets = Vec::new();
    for object in objects {
        let field = |name: &str| object[name].as_str().unwrap_or_default();
        let name = object["metadata"]["name"]
            .as_str()
            .with_context(|| format!("a {} has no metadata.name", field("kind")))?;
        let target = Target {
            resource: catalogue.by_kind(field("apiVersion"), field("kind"))?,
            names: vec![name.to_owned()],
            namespace: Some(connection.namespace_of(object)?.to_owned()),
        };
        join(&mut targets, target);
    }
    Ok(targets)
}

/// Neighbours of one kind are one target, so that they share a table.
fn join<'a>(targets: &mut Vec<Target<'a>>, target: Target<'a>) {
    match targets.last_mut() {
        Some(last) if last.resource == target.resource && last.namespace == target.namespace => {
            last.names.extend(target.names);
        }
        _ => targets.push(target),
    }
}

fn slashed<'a>(catalogue: &'a Catalogue, word: &str) -> Result<Target<'a>> {
    match word.split_once('/') {
        Some((kind, name)) if !kind.is_empty() && !name.is_empty() && !name.contains('/') => Ok(Target {
            resource: catalogue.find(kind)?,
            names: vec![name.to_owned()],
            namespace: None,
        }),
        _ => bail!("arguments in resource/name form must have a single resource and name, unlike {word:?}"),
    }
}

/// `NAME` or `pod/NAME`: verbs that work on pods take both.
pub(crate) fn pod_name(word: &str) -> Result<&str> {
    match word.split_once('/') {
        None => Ok(word),
        Some(("pod" | "pods" | "po", name)) if !name.is_empty() && !name.contains('/') => Ok(name),
        Some((kind, _)) => bail!("this works on pods, not on {kind:?}"),
    }
}
