//! Checks that kinds of several groups share.

use catamaran_api::field::quote;
use catamaran_api::selector::Selector;
use catamaran_api::{Errors, Path, names};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, LabelSelectorRequirement, ObjectMeta};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;

pub(crate) const IMMUTABLE: &str = "field is immutable";

/// A value of any type, for an error that shows it.
pub(crate) fn shown(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

pub(crate) fn immutable<T: PartialEq + Serialize>(new: &T, old: &T, path: &Path<'_>, errors: &mut Errors) {
    if new != old {
        errors.invalid(path, shown(new), IMMUTABLE);
    }
}

pub(crate) fn non_negative(value: i64, path: &Path<'_>, errors: &mut Errors) {
    if value < 0 {
        errors.invalid(path, value, "must be greater than or equal to 0");
    }
}

pub(crate) fn labels(labels: Option<&BTreeMap<String, String>>, path: &Path<'_>, errors: &mut Errors) {
    for (key, value) in labels.into_iter().flatten() {
        errors.invalid_each(path, key, names::qualified_name(key));
        errors.invalid_each(path, value, names::label_value(value));
    }
}

pub(crate) fn label_selector(selector: Option<&LabelSelector>, path: &Path<'_>, errors: &mut Errors) {
    let Some(selector) = selector else { return };
    labels(selector.match_labels.as_ref(), &path.child("matchLabels"), errors);
    let list = path.child("matchExpressions");
    for (index, requirement) in selector.match_expressions.iter().flatten().enumerate() {
        label_requirement(requirement, &list.index(index), errors);
    }
}

fn label_requirement(requirement: &LabelSelectorRequirement, path: &Path<'_>, errors: &mut Errors) {
    let values = requirement.values.as_deref().unwrap_or_default();
    let at = path.child("values");
    match requirement.operator.as_str() {
        "In" | "NotIn" if values.is_empty() => {
            errors.required(&at, "must be specified when `operator` is 'In' or 'NotIn'");
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.forbidden(&at, detail);
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
    }
    let key = &requirement.key;
    errors.invalid_each(&path.child("key"), key, names::qualified_name(key));
    for (index, value) in values.iter().enumerate() {
        errors.invalid_each(&at.index(index), value, names::label_value(value));
    }
}

/// The cell of a table for a label selector.
pub(crate) fn format_label_selector(selector: &LabelSelector) -> String {
    match Selector::from_object(selector, &Path::ROOT) {
        Err(_) => "<error>".to_owned(),
        Ok(selector) if selector.is_everything() => "<none>".to_owned(),
        Ok(selector) => selector.to_string(),
    }
}

/// A label selector as Go prints the message.
pub(crate) fn debug_label_selector(selector: &LabelSelector) -> String {
    let mut text = "&LabelSelector{MatchLabels:map[string]string{".to_owned();
    for (key, value) in selector.match_labels.iter().flatten() {
        let _ = write!(text, "{key}: {value},");
    }
    text.push_str("},MatchExpressions:[]LabelSelectorRequirement{");
    for requirement in selector.match_expressions.iter().flatten() {
        let values = requirement.values.as_deref().unwrap_or_default().join(" ");
        let (key, operator) = (&requirement.key, &requirement.operator);
        let _ = write!(
            text,
            "LabelSelectorRequirement{{Key:{key},Operator:{operator},Values:[{values}],}},"
        );
    }
    text.push_str("},}");
    text
}

pub(crate) fn csi_driver_name(name: &str, path: &Path<'_>, errors: &mut Errors) {
    if name.is_empty() {
        errors.required(path, "");
    }
    if name.len() > 63 {
        errors.too_long(path, 63);
    }
    errors.invalid_each(path, name, names::dns1123_subdomain(&name.to_lowercase()));
}

/// A domain of at least three parts.
pub(crate) fn fully_qualified_name(name: &str, path: &Path<'_>, errors: &mut Errors) {
    if name.is_empty() {
        return errors.required(path, "");
    }
    let messages = names::dns1123_subdomain(name);
    if !messages.is_empty() {
        errors.invalid(path, name, messages.join(","));
    } else if name.split('.').count() < 3 {
        let detail = "should be a domain with at least three segments separated by dots";
        errors.invalid(path, name, detail);
    }
}

/// A domain of at least two parts; a dot at the end does not matter.
pub(crate) fn fully_qualified_domain_name(name: &str, path: &Path<'_>, errors: &mut Errors) {
    if name.is_empty() {
        return errors.required(path, "");
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let messages = names::dns1123_subdomain(name);
    if !messages.is_empty() {
        return errors.invalid(path, name, messages.join(","));
    }
    if name.split('.').count() < 2 {
        let detail = "should be a domain with at least two segments separated by dots";
        return errors.invalid(path, name, detail);
    }
    for label in name.split('.') {
        let messages = names::dns1123_label(label);
        if !messages.is_empty() {
            return errors.invalid(path, label, messages.join(","));
        }
    }
}

/// `example.com/some/path`.
pub(crate) fn domain_prefixed_path(text: &str, path: &Path<'_>, errors: &mut Errors) {
    if text.is_empty() {
        return errors.required(path, "");
    }
    let (host, rest) = text.split_once('/').unwrap_or((text, ""));
    if host.is_empty() || rest.is_empty() {
        let detail = "must be a domain-prefixed path (such as \"acme.io/foo\")";
        return errors.invalid(path, text, detail);
    }
    errors.invalid_each(path, host, names::dns1123_subdomain(host));
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&byte);
    if !rest.bytes().all(allowed) {
        let format = r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+";
        errors.invalid(path, rest, names::grammar("Invalid path", format, &[]));
    }
}

/// `*.example.com`.
pub(crate) fn wildcard_subdomain(text: &str) -> Vec<String> {
    const FORMAT: &str = "\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
    const TEXT: &str = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must \
                        consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character";
    let mut messages = Vec::new();
    if text.len() > names::SUBDOMAIN_MAX {
        messages.push(names::max_length(names::SUBDOMAIN_MAX));
    }
    let valid = text
        .strip_prefix("*.")
        .is_some_and(|domain| domain.len() <= names::SUBDOMAIN_MAX && names::dns1123_subdomain(domain).is_empty());
    if !valid {
        messages.push(names::grammar(TEXT, FORMAT, &["*.example.com"]));
    }
    messages
}

/// Takes back what a write to `status` may not change in metadata.
pub(crate) fn reset_metadata_for_status(new: &mut ObjectMeta, old: &ObjectMeta) {
    new.deletion_timestamp.clone_from(&old.deletion_timestamp);
    new.generation = old.generation;
    new.self_link.clone_from(&old.self_link);
    new.labels.clone_from(&old.labels);
    new.annotations.clone_from(&old.annotations);
    new.finalizers.clone_from(&old.finalizers);
    new.owner_references.clone_from(&old.owner_references);
}

/// What to say about labels of nodes that have newer names.
pub(crate) fn deprecated_node_label(key: &str) -> Option<String> {
    let (version, newer) = match key {
        "beta.kubernetes.io/arch" => ("v1.14", "kubernetes.io/arch"),
        "beta.kubernetes.io/os" => ("v1.14", "kubernetes.io/os"),
        "failure-domain.beta.kubernetes.io/region" => ("v1.17", "topology.kubernetes.io/region"),
        "failure-domain.beta.kubernetes.io/zone" => ("v1.17", "topology.kubernetes.io/zone"),
        "beta.kubernetes.io/instance-type" => ("v1.17", "node.kubernetes.io/instance-type"),
        _ => return None,
    };
    Some(format!("deprecated since {version}; use {} instead", quote(newer)))
}

/// A port of a service that webhooks or aggregated APIs are reached by.
pub(crate) fn webhook_service(
    (namespace, name, url_path, port): (&str, &str, Option<&str>, i32),
    path: &Path<'_>,
    errors: &mut Errors,
) {
    if name.is_empty() {
        errors.required(&path.child("name"), "");
    }
    if namespace.is_empty() {
        errors.required(&path.child("namespace"), "");
    }
    let messages = names::port_number(port);
    if !messages.is_empty() {
        let detail = format!("port is not valid: {}", messages.join(", "));
        errors.invalid(&path.child("port"), port, detail);
    }
    let Some(url_path) = url_path else { return };
    let at = path.child("path");
    if url_path == "/" || url_path.is_empty() {
        return;
    }
    if url_path == "//" {
        return errors.invalid(&at, url_path, "segment[0] may not be empty");
    }
    if !url_path.starts_with('/') {
        errors.invalid(&at, url_path, "must start with a '/'");
    }
    let rest = &url_path[1..];
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    for (index, step) in rest.split('/').enumerate() {
        if step.is_empty() {
            errors.invalid(&at, url_path, format!("segment[{index}] may not be empty"));
            continue;
        }
        let failures = names::dns1123_subdomain(step);
        for failure in failures {
            errors.invalid(&at, url_path, format!("segment[{index}]: {failure}"));
        }
    }
}

/// Conditions in the form that newer kinds have.
pub(crate) fn conditions(conditions: &[Condition], path: &Path<'_>, errors: &mut Errors) {
    for (index, condition) in conditions.iter().enumerate() {
        let at = path.index(index);
        if conditions[..index].iter().any(|other| other.type_ == condition.type_) {
            errors.duplicate(&at.child("type"), condition.type_.as_str());
        }
        validate_condition(condition, &at, errors);
    }
}

fn validate_condition(condition: &Condition, path: &Path<'_>, errors: &mut Errors) {
    const MAX_REASON: usize = 1024;
    const MAX_MESSAGE: usize = 32 * 1024;
    let kind = &condition.type_;
    errors.invalid_each(&path.child("type"), kind, names::qualified_name(kind));
    let statuses = ["False", "True", "Unknown"];
    if !statuses.contains(&condition.status.as_str()) {
        errors.not_supported(&path.child("status"), condition.status.as_str(), &statuses);
    }
    if let Some(generation) = condition.observed_generation.filter(|generation| *generation < 0) {
        let detail = "must be greater than or equal to zero";
        errors.invalid(&path.child("observedGeneration"), generation, detail);
    }
    let at = path.child("reason");
    if condition.reason.is_empty() {
        errors.required(&at, "");
    } else {
        errors.invalid_each(&at, &condition.reason, condition_reason(&condition.reason));
        if condition.reason.len() > MAX_REASON {
            errors.too_long(&at, MAX_REASON);
        }
    }
    if condition.message.len() > MAX_MESSAGE {
        errors.too_long(&path.child("message"), MAX_MESSAGE);
    }
}

fn condition_reason(reason: &str) -> Vec<String> {
    const FORMAT: &str = "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?";
    const TEXT: &str = "a condition reason must start with alphabetic character, optionally followed by a string of \
                        alphanumeric characters or '_,:', and must end with an alphanumeric character or '_'";
    const EXAMPLES: [&str; 5] = ["my_name", "MY_NAME", "MyName", "ReasonA,ReasonB", "ReasonA:ReasonB"];
    let starts = reason.starts_with(|c: char| c.is_ascii_alphabetic());
    let ends = reason.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    let all = reason
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"_,:".contains(&byte));
    if starts && ends && all {
        Vec::new()
    } else {
        vec![names::grammar(TEXT, FORMAT, &EXAMPLES)]
    }
}

/// `[A-Za-z_][A-Za-z0-9_]*`.
pub(crate) fn c_identifier(text: &str) -> Vec<String> {
    const TEXT: &str = "a valid C identifier must start with alphabetic character or '_', followed by a string of \
                        alphanumeric characters or '_'";
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if starts && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        Vec::new()
    } else {
        vec![names::grammar(
            TEXT,
            "[A-Za-z_][A-Za-z0-9_]*",
            &["my_name", "MY_NAME", "MyName"],
        )]
    }
}
