//! Is a schema structural?

use super::{Rules, Schema, Type};
use crate::field::{Errors, Path};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// Everything in which a schema is not structural, sorted by text as Kubernetes sorts it.
pub fn check(path: &Path<'_>, schema: &Schema, errors: &mut Errors) {
    let mut found = Errors::new();
    invariants(path, schema, Level::Root, &mut found);
    if let Some(rules) = &schema.rules {
        complete_rules(rules, Some(schema), path, path, &mut found);
    }
    let mut sorted: Vec<_> = found.into_iter().collect();
    sorted.sort_by_cached_key(ToString::to_string);
    errors.extend(sorted);
}

fn invariants(path: &Path<'_>, schema: &Schema, level: Level, errors: &mut Errors) {
    if schema.ty == Some(Type::Array) && schema.items.is_none() {
        errors.required(&path.child("items"), "must be specified");
    }
    if let Some(items) = &schema.items {
        invariants(&path.child("items"), items, Level::Item, errors);
    }
    let properties = path.child("properties");
    for (name, property) in &schema.properties {
        invariants(&properties.key(name), property, Level::Field, errors);
    }
    let additional = path.child("additionalProperties");
    if schema.additional.is_some() && level == Level::Root {
        errors.forbidden(&additional, "must not be used at the root");
    }
    if let Some(values) = schema.additional_schema() {
        invariants(&additional, values, Level::Field, errors);
    }
    extensions(path, schema, errors);
    if let Some(rules) = &schema.rules {
        let int_or_string = |alternatives: &[Schema]| is_int_or_string(alternatives);
        let skip_any = int_or_string(&rules.any_of);
        let skip_first = rules
            .all_of
            .first()
            .and_then(|first| first.rules.as_ref())
            .is_some_and(|first| int_or_string(&first.any_of));
        junctors(path, rules, skip_any, skip_first, false, errors);
    }
    types(path, schema, level, errors);
    metadata(path, schema, level, errors);
}

fn extensions(path: &Path<'_>, schema: &Schema, errors: &mut Errors) {
    let detail = "must be false if x-kubernetes-int-or-string is true";
    if schema.int_or_string && schema.preserve_unknown {
        errors.invalid(&path.child("x-kubernetes-preserve-unknown-fields"), true, detail);
    }
    if schema.int_or_string && schema.embedded {
        errors.invalid(&path.child("x-kubernetes-embedded-resource"), true, detail);
    }
}

fn types(path: &Path<'_>, schema: &Schema, level: Level, errors: &mut Errors) {
    let ty = path.child("type");
    match schema.ty {
        Some(Type::Object) => {}
        None if schema.embedded => {
            errors.required(&ty, "must be object if x-kubernetes-embedded-resource is true");
        }
        Some(other) if schema.embedded => {
            errors.invalid(
                &ty,
                other.as_str(),
                "must be object if x-kubernetes-embedded-resource is true",
            );
        }
        None if !schema.int_or_string && !schema.preserve_unknown => errors.required(
            &ty,
            match level {
                Level::Root => "must not be empty at the root",
                Level::Item => "must not be empty for specified array items",
                Level::Field => "must not be empty for specified object fields",
            },
        ),
        _ => {}
    }
    if schema.embedded && schema.additional.is_some() {
        errors.forbidden(
            &path.child("additionalProperties"),
            "must not be used if x-kubernetes-embedded-resource is set",
        );
    }
    if let Some(other) = schema.ty.filter(|ty| level == Level::Root && *ty != Type::Object) {
        errors.invalid(&ty, other.as_str(), "must be object at the root");
    }
    if schema.embedded && !schema.preserve_unknown && schema.properties.is_empty() {
        errors.required(
            &path.child("properties"),
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
        );
    }
}

fn metadata(path: &Path<'_>, schema: &Schema, level: Level, errors: &mut Errors) {
    let is_resource = level == Level::Root || schema.embedded;
    let properties = path.child("properties");
    for name in ["kind", "apiVersion"] {
        if let Some(property) = schema.properties.get(name).filter(|_| is_resource)
            && property.ty != Some(Type::String)
        {
            let found = property.ty.map_or("", Type::as_str);
            errors.invalid(&properties.key(name).child("type"), found, "must be string");
        }
    }
    let Some(metadata) = schema.properties.get("metadata") else {
        return;
    };
    let path = properties.key("metadata");
    if is_resource && metadata.ty != Some(Type::Object) {
        let found = metadata.ty.map_or("", Type::as_str);
        errors.invalid(&path.child("type"), found, "must be object");
    }
    if level == Level::Root {
        let mut rest = metadata.clone();
        if rest
            .properties
            .keys()
            .all(|name| matches!(&**name, "name" | "generateName"))
        {
            rest.properties.clear();
        }
        rest.ty = None;
        rest.default = None;
        if rest != Schema::default() {
            errors.forbidden(
                &path,
                "must not specify anything other than name and generateName, but metadata is implicitly specified",
            );
        }
    }
}

/// `anyOf: [{type: integer}, {type: string}]`, the one place where types may stand in a junctor.
pub(super) fn is_int_or_string(alternatives: &[Schema]) -> bool {
    let only = |ty| Schema {
        ty: Some(ty),
        ..Schema::default()
    };
    alternatives.len() == 2 && alternatives[0] == only(Type::Integer) && alternatives[1] == only(Type::String)
}

fn junctors(
    path: &Path<'_>,
    rules: &Rules,
    skip_any: bool,
    skip_first_all: bool,
    expressions: bool,
    errors: &mut Errors,
) {
    if !skip_any {
        let any = path.child("anyOf");
        for (index, alternative) in rules.any_of.iter().enumerate() {
            nested(&any.index(index), alternative, false, false, errors);
        }
    }
    let all = path.child("allOf");
    for (index, part) in rules.all_of.iter().enumerate() {
        nested(
            &all.index(index),
            part,
            skip_first_all && index == 0,
            expressions,
            errors,
        );
    }
    let one = path.child("oneOf");
    for (index, alternative) in rules.one_of.iter().enumerate() {
        nested(&one.index(index), alternative, false, false, errors);
    }
    if let Some(not) = &rules.not {
        nested(&path.child("not"), not, false, false, errors);
    }
    if let Some(pattern) = &rules.pattern
        && let Err(error) = pattern.regex()
    {
        errors.invalid(
            &path.child("pattern"),
            pattern.text.as_str(),
            format!("must be a valid regular expression, but isn't: {error}"),
        );
    }
}

fn nested(path: &Path<'_>, schema: &Schema, skip_any: bool, expressions: bool, errors: &mut Errors) {
    if let Some(rules) = &schema.rules {
        junctors(path, rules, skip_any, false, expressions, errors);
    }
    if let Some(items) = &schema.items {
        nested(&path.child("items"), items, false, expressions, errors);
    }
    let properties = path.child("properties");
    for (name, property) in &schema.properties {
        nested(&properties.key(name), property, false, expressions, errors);
    }
    let forbidden = [
        ("type", schema.ty.is_some(), "must be empty to be structural"),
        (
            "additionalProperties",
            schema.additional.is_some(),
            "must be undefined to be structural",
        ),
        (
            "default",
            schema.default.is_some(),
            "must be undefined to be structural",
        ),
        ("title", schema.titled, "must be empty to be structural"),
        ("description", schema.described, "must be empty to be structural"),
        ("nullable", schema.nullable, "must be false to be structural"),
        (
            "x-kubernetes-preserve-unknown-fields",
            schema.preserve_unknown,
            "must be false to be structural",
        ),
        (
            "x-kubernetes-embedded-resource",
            schema.embedded,
            "must be false to be structural",
        ),
        (
            "x-kubernetes-int-or-string",
            schema.int_or_string,
            "must be false to be structural",
        ),
        (
            "x-kubernetes-list-map-keys",
            schema.map_keys().is_some_and(|keys| !keys.is_empty()),
            "must be empty to be structural",
        ),
        (
            "x-kubernetes-list-type",
            schema.list_type.is_some(),
            "must be undefined to be structural",
        ),
        (
            "x-kubernetes-map-type",
            schema.atomic_map.is_some(),
            "must be undefined to be structural",
        ),
        (
            "x-kubernetes-validations",
            !schema.expressions.is_empty() && !expressions,
            "must be empty to be structural",
        ),
    ];
    for (keyword, present, detail) in forbidden {
        if present {
            errors.forbidden(&path.child(keyword), detail);
        }
    }
    if schema.properties.contains_key("metadata") {
        errors.forbidden(&properties.key("metadata"), "must not be specified in a nested context");
    }
}

/// Everything that a junctor speaks about has to be declared outside of it.
fn complete_rules(rules: &Rules, schema: Option<&Schema>, place: &Path<'_>, path: &Path<'_>, errors: &mut Errors) {
    if let Some(not) = &rules.not {
        complete(not, schema, place, &path.child("not"), errors);
    }
    for (keyword, parts) in [
        ("allOf", &rules.all_of),
        ("anyOf", &rules.any_of),
        ("oneOf", &rules.one_of),
    ] {
        let path = path.child(keyword);
        for (index, part) in parts.iter().enumerate() {
            complete(part, schema, place, &path.index(index), errors);
        }
    }
}

fn complete(part: &Schema, schema: Option<&Schema>, place: &Path<'_>, path: &Path<'_>, errors: &mut Errors) {
    let Some(schema) = schema else {
        errors.required(place, format!("because it is defined in {path}"));
        return;
    };
    if let Some(rules) = &part.rules {
        complete_rules(rules, Some(schema), place, path, errors);
    }
    if let Some(items) = &part.items {
        complete(
            items,
            schema.items.as_deref(),
            &place.child("items"),
            &path.child("items"),
            errors,
        );
    }
    let (places, paths) = (place.child("properties"), path.child("properties"));
    for (name, property) in &part.properties {
        let path = paths.key(name);
        complete(property, schema.properties.get(name), &places.key(name), &path, errors);
    }
}
