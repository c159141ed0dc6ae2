//! Table cells that many kinds have: the containers of a template, selectors, labels.

use catamaran_api::Path;
use catamaran_api::selector::Selector;
use catamaran_api::table::Column;
use k8s_openapi::api::core::v1::{Container, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use std::collections::BTreeMap;

pub(crate) const CONTAINERS: Column = Column::string("Containers", "Names of the containers in the template.").wide();
pub(crate) const IMAGES: Column = Column::string("Images", "Images of the containers in the template.").wide();
pub(crate) const SELECTOR: Column = Column::string("Selector", "Labels of the pods it is about.").wide();

/// A template's containers, of which there are none without a template.
pub(crate) fn containers(template: Option<&PodTemplateSpec>) -> &[Container] {
    template
        .and_then(|template| template.spec.as_ref())
        .map_or(&[], |spec| &spec.containers)
}

/// Names and images, each list separated by commas.
pub(crate) fn names_and_images(containers: &[Container]) -> [String; 2] {
    let names: Vec<&str> = containers.iter().map(|container| container.name.as_str()).collect();
    let images: Vec<&str> = containers
        .iter()
        .map(|container| container.image.as_deref().unwrap_or_default())
        .collect();
    [names.join(","), images.join(",")]
}

/// `app=web,tier=front`.
pub(crate) fn labels(labels: Option<&BTreeMap<String, String>>) -> String {
    let pairs: Vec<String> = labels
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    if pairs.is_empty() {
        "<none>".to_owned()
    } else {
        pairs.join(",")
    }
}

/// A selector in its text form; `None` if it is none.
pub(crate) fn selector_text(selector: &LabelSelector) -> Option<String> {
    let selector = Selector::from_object(selector, &Path::ROOT).ok()?;
    let mut requirements: Vec<_> = selector.requirements().iter().collect();
    requirements.sort_by_key(|requirement| requirement.key());
    let texts: Vec<String> = requirements.iter().map(ToString::to_string).collect();
    Some(texts.join(","))
}

/// A selector for a cell.
pub(crate) fn selector(selector: &LabelSelector) -> String {
    match selector_text(selector) {
        None => "<error>".to_owned(),
        Some(text) if text.is_empty() => "<none>".to_owned(),
        Some(text) => text,
    }
}
