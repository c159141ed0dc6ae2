//! Golden checks that the tests of all groups share. Kinds are named `plural.group`, or `plural` for the legacy group.

use super::{ALL, ErasedKind, Object};
use catamaran_api::Errors;
use expect_test::Expect;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

pub(crate) fn kind(resource: &str) -> &'static dyn ErasedKind {
    let found = ALL
        .iter()
        .find(|kind| kind.info().group_resource().to_string() == resource);
    *found.expect("a kind of this name")
}

pub(crate) fn decode(kind: &dyn ErasedKind, value: Value) -> Box<dyn Object> {
    let mut object = kind.decode(value).expect("an object");
    kind.default(&mut *object);
    object
}

fn lines(errors: &Errors) -> String {
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

/// Errors of a new object.
pub(crate) fn create(resource: &str, object: Value, expected: &Expect) {
    let kind = kind(resource);
    let mut object = decode(kind, object);
    kind.prepare_create(&mut *object);
    let mut errors = Errors::new();
    kind.validate(&*object, &mut errors);
    kind.validate_create(&*object, &mut errors);
    expected.assert_eq(&lines(&errors));
}

/// Errors of a change, without those the new object has on its own.
pub(crate) fn update(resource: &str, old: Value, new: Value, expected: &Expect) {
    let kind = kind(resource);
    let (old, mut new) = (decode(kind, old), decode(kind, new));
    kind.prepare_update(&mut *new, &*old);
    let mut errors = Errors::new();
    kind.validate_update(&*new, &*old, &mut errors);
    expected.assert_eq(&lines(&errors));
}

/// Errors of a new status.
pub(crate) fn status(resource: &str, old: Value, new: Value, expected: &Expect) {
    let kind = kind(resource);
    let (old, mut new) = (decode(kind, old), decode(kind, new));
    kind.prepare_status(&mut *new, &*old);
    let mut errors = Errors::new();
    kind.validate_status(&*new, &*old, &mut errors);
    expected.assert_eq(&lines(&errors));
}

/// What an object becomes by its defaults.
pub(crate) fn defaults(resource: &str, object: Value, expected: &Expect) {
    let object = decode(kind(resource), object).to_value().expect("JSON");
    expected.assert_eq(&serde_json::to_string_pretty(&object).expect("JSON"));
}

/// The row of an object, on the second day of 2026.
pub(crate) fn row(resource: &str, object: Value, expected: &Expect) {
    let kind = kind(resource);
    let now: Timestamp = "2026-01-02T00:00:00Z".parse().expect("a time");
    let cells = kind.row(&*decode(kind, object), now);
    assert_eq!(cells.len(), kind.columns().len(), "{resource}");
    let lines: Vec<String> = kind
        .columns()
        .iter()
        .zip(cells)
        .map(|(column, cell)| {
            let wide = if column.priority > 0 { " (wide)" } else { "" };
            format!("{}{wide}: {cell}", column.name)
        })
        .collect();
    expected.assert_eq(&lines.join("\n"));
}
