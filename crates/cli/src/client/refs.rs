//! What the words after a verb refer to: `pod a b`, `pods,configmaps`, `pod/a cm/b`.

use super::discovery::{Catalogue, Resource};
use anyhow::{Result, bail};

/// A kind, and the names asked for; no name means all of them.
#[derive(Debug)]
pub(crate) struct Target<'a> {
    pub(crate) resource: &'a Resource,
    pub(crate) names: Vec<String>,
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
        return words.iter().map(|word| slashed(catalogue, word)).collect();
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
        }));
    }
    Ok(targets)
}

fn slashed<'a>(catalogue: &'a Catalogue, word: &str) -> Result<Target<'a>> {
    match word.split_once('/') {
        Some((kind, name)) if !kind.is_empty() && !name.is_empty() => Ok(Target {
            resource: catalogue.find(kind)?,
            names: vec![name.to_owned()],
        }),
        _ => bail!("arguments in resource/name form must have a single resource and name, unlike {word:?}"),
    }
}

/// `NAME` or `pod/NAME`: verbs that work on pods take both.
pub(crate) fn pod_name(word: &str) -> Result<&str> {
    match word.split_once('/') {
        None => Ok(word),
        Some(("pod" | "pods" | "po", name)) if !name.is_empty() => Ok(name),
        Some((kind, _)) => bail!("this works on pods, not on {kind:?}"),
    }
}
