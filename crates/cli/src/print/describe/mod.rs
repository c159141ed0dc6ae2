//! Pages of `cata describe`: one file per kind that has a page of its own, a generic one for the rest.

mod config_map;
mod events;
mod generic;
mod namespace;
mod node;
mod pod;
mod service_account;

use super::tabwriter;
use jiff::Timestamp;
use serde_json::Value;
use std::fmt::Write;

/// What a page is made of, fetched beforehand: pages do no IO.
pub(crate) struct Facts<'a> {
    pub(crate) object: &'a Value,
    /// Events about the object, oldest first.
    pub(crate) events: &'a [Value],
    /// For a node: the pods on it that are not finished.
    pub(crate) pods: &'a [Value],
    pub(crate) now: Timestamp,
}

/// The page of an object.
pub(crate) fn page(facts: &Facts<'_>) -> String {
    let mut page = Page::default();
    match (facts.object["apiVersion"].as_str(), facts.object["kind"].as_str()) {
        (Some("v1"), Some("ConfigMap")) => config_map::write(&mut page, facts),
        (Some("v1"), Some("Namespace")) => namespace::write(&mut page, facts),
        (Some("v1"), Some("ServiceAccount")) => service_account::write(&mut page, facts),
        (Some("v1"), Some("Pod")) => pod::write(&mut page, facts),
        (Some("v1"), Some("Node")) => node::write(&mut page, facts),
        _ => generic::write(&mut page, facts),
    }
    events::write(&mut page, facts);
    tabwriter::expand(&page.text)
}

/// Text under construction: levels of indentation, cells separated by tabs.
#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn line(&mut self, level: usize, text: impl AsRef<str>) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{:width$}{}", "", text.as_ref(), width = level * 2);
    }

    /// Name, namespace, labels and annotations: how most pages begin.
    fn heading(&mut self, metadata: &Value) {
        self.field(0, "Name", text(&metadata["name"]));
        if metadata["namespace"].is_string() {
            self.field(0, "Namespace", text(&metadata["namespace"]));
        }
        self.map(0, "Labels", &metadata["labels"], "=");
        self.map(0, "Annotations", &metadata["annotations"], ": ");
    }

    fn field(&mut self, level: usize, name: &str, value: impl AsRef<str>) {
        self.line(level, format!("{name}:\t{}", value.as_ref()));
    }

    /// A field that is left out when there is nothing to say.
    fn optional(&mut self, level: usize, name: &str, value: &Value) {
        if let Some(text) = scalar(value) {
            self.field(level, name, text);
        }
    }

    /// `key=value` (labels) or `key: value` (annotations), one per line, the first beside the name.
    fn map(&mut self, level: usize, name: &str, map: &Value, separator: &str) {
        let pairs: Vec<String> = map
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(key, _)| *key != "kubectl.kubernetes.io/last-applied-configuration")
            .map(|(key, value)| format!("{key}{separator}{}", scalar(value).unwrap_or_default()))
            .collect();
        self.list(level, name, &pairs);
    }

    /// One entry per line, the first beside the name; `<none>` when empty.
    fn list(&mut self, level: usize, name: &str, entries: &[String]) {
        let (first, rest) = entries
            .split_first()
            .map_or(("<none>", &[][..]), |(first, rest)| (first.as_str(), rest));
        self.field(level, name, first);
        for entry in rest {
            self.line(level, format!("\t{entry}"));
        }
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) if text.is_empty() => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// `Sat, 21 Nov 2026 13:00:00 +0000`, as kubectl writes times.
fn time(value: &Value) -> String {
    match value.as_str().and_then(|text| text.parse::<Timestamp>().ok()) {
        Some(time) => time.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string(),
        None => "<unset>".to_owned(),
    }
}

fn age(value: &Value, now: Timestamp) -> String {
    match value.as_str().and_then(|text| text.parse::<Timestamp>().ok()) {
        Some(time) => catamaran_api::table::age(time, now),
        None => "<unknown>".to_owned(),
    }
}

#[cfg(test)]
mod tests;
