//! Rules that fields of many kinds share: numbers that count something, words from a list, label selectors, percentages.
//! Sentences are those of Kubernetes' validation, which people search for.

use catamaran_api::quantity::Quantity;
use catamaran_api::selector::Selector;
use catamaran_api::{Errors, Path, names};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Amount;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

pub(crate) const NOT_NEGATIVE: &str = "must be greater than or equal to 0";
pub(crate) const NOT_POSITIVE: &str = "must be greater than zero";
pub(crate) const IMMUTABLE: &str = "field is immutable";

/// A number that counts something.
pub(crate) fn nonnegative(value: impl Into<i64>, path: &Path<'_>, errors: &mut Errors) {
    let value = value.into();
    if value < 0 {
        errors.invalid(path, value, NOT_NEGATIVE);
    }
}

/// Several counts of one object that may be left out.
pub(crate) fn nonnegative_fields<const N: usize>(
    fields: [(&str, Option<i64>); N],
    path: &Path<'_>,
    errors: &mut Errors,
) {
    for (field, value) in fields {
        if let Some(value) = value {
            nonnegative(value, &path.child(field), errors);
        }
    }
}

/// An amount that may be nothing, and not less.
pub(crate) fn nonnegative_amount(amount: &Amount, path: &Path<'_>, errors: &mut Errors) {
    match Quantity::try_from(amount) {
        Err(error) => errors.invalid(path, amount.0.as_str(), error.to_string()),
        Ok(quantity) if quantity.is_negative() => errors.invalid(path, amount.0.as_str(), NOT_NEGATIVE),
        Ok(_) => {}
    }
}

/// An amount of more than nothing.
pub(crate) fn positive_amount(amount: &Amount, path: &Path<'_>, errors: &mut Errors) {
    match Quantity::try_from(amount) {
        Err(error) => errors.invalid(path, amount.0.as_str(), error.to_string()),
        Ok(quantity) if quantity.is_negative() || quantity.is_zero() => {
            errors.invalid(path, amount.0.as_str(), NOT_POSITIVE);
        }
        Ok(_) => {}
    }
}

/// A value that may be left out and must else be one of `supported`.
pub(crate) fn one_of(value: Option<&str>, supported: &[&str], path: &Path<'_>, errors: &mut Errors) {
    if let Some(value) = value.filter(|value| !supported.contains(value)) {
        errors.not_supported(path, value, supported);
    }
}

/// A value that must be one of `supported`.
pub(crate) fn one_of_required(value: &str, supported: &[&str], path: &Path<'_>, errors: &mut Errors) {
    if value.is_empty() {
        errors.required(path, "");
    } else {
        one_of(Some(value), supported, path, errors);
    }
}

/// A value that stays what it was.
pub(crate) fn immutable<T: PartialEq + Serialize>(new: &T, old: &T, path: &Path<'_>, errors: &mut Errors) {
    if new != old {
        errors.invalid(path, serde_json::to_value(new).unwrap_or_default(), IMMUTABLE);
    }
}

/// Counts hash collisions, so it only grows.
pub(crate) fn not_decremented(new: Option<i32>, old: Option<i32>, path: &Path<'_>, errors: &mut Errors) {
    let shrank = match (new, old) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(new), Some(old)) => new < old,
    };
    if shrank {
        errors.invalid(path, new.unwrap_or(0), "cannot be decremented");
    }
}

/// Labels, and maps of the same form such as node selectors.
pub(crate) fn labels(labels: Option<&BTreeMap<String, String>>, path: &Path<'_>, errors: &mut Errors) {
    for (key, value) in labels.into_iter().flatten() {
        errors.invalid_each(path, key, names::qualified_name(key));
        errors.invalid_each(path, value, names::label_value(value));
    }
}

const ANNOTATIONS_MAX: usize = 256 * 1024;

pub(crate) fn annotations(annotations: Option<&BTreeMap<String, String>>, path: &Path<'_>, errors: &mut Errors) {
    let mut total = 0;
    for (key, value) in annotations.into_iter().flatten() {
        total += key.len() + value.len();
        errors.invalid_each(path, key, names::qualified_name(&key.to_lowercase()));
    }
    if total > ANNOTATIONS_MAX {
        errors.too_long(path, ANNOTATIONS_MAX);
    }
}

pub(crate) fn label_selector(selector: &LabelSelector, path: &Path<'_>, errors: &mut Errors) {
    labels(selector.match_labels.as_ref(), &path.child("matchLabels"), errors);
    let list = path.child("matchExpressions");
    for (index, expression) in selector.match_expressions.iter().flatten().enumerate() {
        label_requirement(expression, &list.index(index), errors);
    }
}

fn label_requirement(expression: &LabelSelectorRequirement, path: &Path<'_>, errors: &mut Errors) {
    let values = expression.values.as_deref().unwrap_or_default();
    let at = path.child("values");
    match expression.operator.as_str() {
        "In" | "NotIn" if values.is_empty() => {
            errors.required(&at, "must be specified when `operator` is 'In' or 'NotIn'");
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            errors.forbidden(
                &at,
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            );
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
    }
    errors.invalid_each(
        &path.child("key"),
        &expression.key,
        names::qualified_name(&expression.key),
    );
    for (index, value) in values.iter().enumerate() {
        errors.invalid_each(&at.index(index), value, names::label_value(value));
    }
}

/// Nothing is asked for. A selector that was left out looks the same to us.
pub(crate) fn is_empty_selector(selector: &LabelSelector) -> bool {
    selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
        && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
}

/// Does the selector hold for the labels? `None`: it is no selector.
pub(crate) fn selects(selector: &LabelSelector, labels: Option<&BTreeMap<String, String>>) -> Option<bool> {
    let selector = Selector::from_object(selector, &Path::ROOT).ok()?;
    Some(selector.matches(&labels))
}

/// Puts `5` or `25%` into JSON, as it was written.
pub(crate) fn shown(value: &IntOrString) -> Value {
    match value {
        IntOrString::Int(number) => Value::from(*number),
        IntOrString::String(text) => Value::from(text.as_str()),
    }
}

fn percent_messages(text: &str) -> Vec<String> {
    let digits = text.strip_suffix('%').unwrap_or_default();
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Vec::new();
    }
    vec![names::grammar(
        "a valid percent string must be a numeric string followed by an ending '%'",
        "[0-9]+%",
        &["1%", "93%"],
    )]
}

/// A count, or a share in percent.
pub(crate) fn int_or_percent(value: &IntOrString, path: &Path<'_>, errors: &mut Errors) {
    match value {
        IntOrString::Int(number) => nonnegative(*number, path, errors),
        IntOrString::String(text) => errors.invalid_each(path, text, percent_messages(text)),
    }
}

fn percent(value: &IntOrString) -> Option<i64> {
    match value {
        IntOrString::String(text) if percent_messages(text).is_empty() => {
            Some(text.trim_end_matches('%').parse().unwrap_or(i64::MAX))
        }
        _ => None,
    }
}

/// The number, with or without a percent sign.
pub(crate) fn int_or_percent_value(value: &IntOrString) -> i64 {
    match value {
        IntOrString::Int(number) => i64::from(*number),
        IntOrString::String(text) => percent(value).unwrap_or_else(|| text.parse().unwrap_or(0)),
    }
}

pub(crate) fn at_most_100_percent(value: &IntOrString, path: &Path<'_>, errors: &mut Errors) {
    if percent(value).is_some_and(|percent| percent > 100) {
        errors.invalid(path, shown(value), "must not be greater than 100%");
    }
}

pub(crate) fn port_number(port: i32, path: &Path<'_>, errors: &mut Errors) {
    for message in names::port_number(port) {
        errors.invalid(path, port, message);
    }
}

/// A port of a container: its number or its name.
pub(crate) fn port_number_or_name(port: &IntOrString, path: &Path<'_>, errors: &mut Errors) {
    match port {
        IntOrString::Int(number) => port_number(*number, path, errors),
        IntOrString::String(name) => errors.invalid_each(path, name, names::port_name(name)),
    }
}

/// `acme.io/foo`: who manages something.
pub(crate) fn domain_prefixed_path(value: &str, path: &Path<'_>, errors: &mut Errors) {
    if value.is_empty() {
        errors.required(path, "");
        return;
    }
    let Some((host, rest)) = value
        .split_once('/')
        .filter(|(host, rest)| !host.is_empty() && !rest.is_empty())
    else {
        errors.invalid(path, value, "must be a domain-prefixed path (such as \"acme.io/foo\")");
        return;
    };
    errors.invalid_each(path, host, names::dns1123_subdomain(host));
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&byte);
    if !rest.bytes().all(allowed) {
        let detail = names::grammar("Invalid path", "[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+", &[]);
        errors.invalid(path, rest, detail);
    }
}

/// Addresses of which every family has at most one.
pub(crate) fn is_dual_stack(addresses: &[String]) -> bool {
    let v6 = addresses.iter().filter(|address| address.contains(':')).count();
    v6 > 0 && v6 < addresses.len()
}
