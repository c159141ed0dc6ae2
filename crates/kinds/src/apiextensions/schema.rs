//! The schema of a version: OpenAPI keywords that are not for definitions, structural rules, list types, expressions and their cost.

use super::customresourcedefinitions::visit;
use super::internal;
use crate::checks::shown;
use catamaran_api::field::{Errors, FieldError, Path, Reason};
use catamaran_api::structural::{self, Schema, paths};
use catamaran_cel::rules::{CompiledRule, RuleSet, compile_rules, declare, estimated_cardinality};
use catamaran_cel::{Budget, Decl};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool, JSONSchemaPropsOrStringArray, ValidationRule,
};

/// Most that one rule may be estimated to cost.
const RULE_COST_LIMIT: u64 = 10_000_000;
/// Most that all rules of a schema may be estimated to cost.
const SCHEMA_COST_LIMIT: u64 = 100_000_000;
/// Rules that cost less are not named when the schema costs too much.
const NOTEWORTHY: u64 = SCHEMA_COST_LIMIT / 100;
const NAMED_RULES: usize = 4;

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
const REASONS: [&str; 4] = [
    "FieldValueDuplicate",
    "FieldValueForbidden",
    "FieldValueInvalid",
    "FieldValueRequired",
];

/// Adds everything that is wrong with a schema. `path` is that of the object that holds `openAPIV3Schema`.
pub(super) fn validate(path: &Path<'_>, props: &JSONSchemaProps, has_status: bool, errors: &mut Errors) {
    let path = path.child("openAPIV3Schema");
    let mut found = Errors::new();
    if has_status {
        root_with_status(&path, props, &mut found);
    }
    if props.nullable == Some(true) {
        found.forbidden(&path.child("nullable"), "nullable cannot be true at the root");
    }
    let schema = Schema::new(props);
    let mut costs = None;
    // A type that does not exist says nothing about structure.
    let mut types_known = true;
    visit(props, &mut |props| {
        types_known &= props
            .type_
            .as_deref()
            .is_none_or(|ty| ty.is_empty() || TYPES.contains(&ty));
    });
    if let Ok(schema) = schema.as_ref()
        && types_known
    {
        let before = found.len();
        structural::check(&path, schema, &mut found);
        if found.len() == before {
            structural::check_defaults(&path, schema, &mut evaluate_default, &mut found);
        }
        if found.len() == before {
            costs = Some(Costs::default());
        }
    }
    let mut visitor = Visitor {
        schema_errors: Errors::new(),
        rule_errors: Errors::new(),
        costs,
    };
    let place = Place {
        root: true,
        cardinality: Some(1),
        ..Place::default()
    };
    visitor.schema(&path, props, place);
    found.extend(visitor.schema_errors);
    found.extend(visitor.rule_errors);
    if let Err(unsupported) = schema
        && found.is_empty()
    {
        found.invalid(&path, "", unsupported.to_string());
    }
    if let Some(costs) = visitor.costs {
        costs.report(&path, &mut found);
    }
    errors.extend(found);
}

fn evaluate_default(path: &Path<'_>, schema: &Schema, default: &serde_json::Value, root: bool, errors: &mut Errors) {
    if let Some(rules) = RuleSet::new(schema, root) {
        rules.check(path, default, Some(default), &mut Budget::default(), errors);
        if errors.is_empty() {
            rules.check(path, default, None, &mut Budget::default(), errors);
        }
    }
}

/// Where the status is written by its own endpoint, the root may say little.
fn root_with_status(path: &Path<'_>, props: &JSONSchemaProps, errors: &mut Errors) {
    if let Some(ty) = props.type_.as_deref().filter(|ty| *ty != "object") {
        errors.invalid(
            &path.child("type"),
            ty,
            "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled",
        );
        return;
    }
    let is_some = |parts: &Option<Vec<JSONSchemaProps>>| parts.as_ref().is_some_and(|parts| !parts.is_empty());
    let more = props.id.is_some()
        || props.schema.is_some()
        || props.ref_path.is_some()
        || props.default.is_some()
        || props.nullable == Some(true)
        || props.enum_.is_some()
        || props.max_properties.is_some()
        || props.min_properties.is_some()
        || is_some(&props.all_of)
        || is_some(&props.one_of)
        || is_some(&props.any_of)
        || props.not.is_some()
        || props.additional_properties.is_some()
        || props.x_kubernetes_embedded_resource.is_some()
        || props.x_kubernetes_int_or_string.is_some()
        || props.x_kubernetes_map_type.is_some()
        || props.x_kubernetes_list_type.is_some();
    if more {
        internal::invalid(
            errors,
            path,
            &internal::schema(props),
            "only [Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum MaxLength MinLength Pattern \
             MaxItems MinItems UniqueItems MultipleOf Required Items Properties ExternalDocs Example XPreserveUnknownFields \
             XValidations] fields are allowed at the root of the schema if the status subresource is enabled",
        );
    }
}

/// What is known about the place a schema stands in.
#[derive(Clone, Debug, Default)]
struct Place {
    root: bool,
    inside_meta: bool,
    /// Why defaults may not be set here.
    no_defaults: Option<String>,
    /// From where on old values cannot be found.
    uncorrelatable: Option<String>,
    /// How often the place can occur in an object; `None`: any number of times.
    cardinality: Option<u64>,
    /// The declaration of the place, once a rule around it needed one.
    decl: Option<Decl>,
    /// In a junctor, where rules are counted elsewhere.
    nested: bool,
}

#[derive(Default)]
struct Costs {
    total: u64,
    most: Vec<(String, u64)>,
}

impl Costs {
    fn add(&mut self, path: String, cost: u64) {
        self.total = self.total.saturating_add(cost);
        if cost >= NOTEWORTHY {
            self.most.push((path, cost));
            self.most.sort_by_key(|rule| std::cmp::Reverse(rule.1));
            self.most.truncate(NAMED_RULES);
        }
    }

    fn report(self, path: &Path<'_>, errors: &mut Errors) {
        if self.total <= SCHEMA_COST_LIMIT {
            return;
        }
        for (field, _) in self.most {
            errors.push(FieldError {
                reason: Reason::Forbidden,
                field,
                value: None,
                shown: None,
                detail: "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema"
                    .to_owned(),
            });
        }
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        errors.forbidden(path, cost_message(what, self.total, SCHEMA_COST_LIMIT));
    }
}

#[allow(clippy::cast_precision_loss, reason = "a factor for people to read")]
fn cost_message(what: &str, cost: u64, limit: u64) -> String {
    let factor = cost as f64 / limit as f64;
    let factor = if factor > 100.0 {
        "more than 100x".to_owned()
    } else if factor < 1.5 {
        format!("{factor:.6}x")
    } else {
        format!("{factor:.1}x")
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength \
         where arrays, maps, and strings are declared)"
    )
}

struct Visitor {
    schema_errors: Errors,
    rule_errors: Errors,
    /// `None`: the schema is wrong already, and rules are not compiled.
    costs: Option<Costs>,
}

impl Visitor {
    #[expect(clippy::needless_pass_by_value, reason = "callers make a place for each schema")]
    fn schema(&mut self, path: &Path<'_>, props: &JSONSchemaProps, place: Place) {
        self.keywords(path, props, &place);
        let decl = self.declaration(props, &place);
        self.children(path, props, &place, decl.as_ref());
        self.list_and_map_types(path, props);
        self.rules(path, props, &place, decl.as_ref());
    }

    fn declaration(&self, props: &JSONSchemaProps, place: &Place) -> Option<Decl> {
        let rules = props
            .x_kubernetes_validations
            .as_ref()
            .is_some_and(|rules| !rules.is_empty());
        if place.decl.is_some() {
            return place.decl.clone();
        }
        if !rules || self.costs.is_none() {
            return None;
        }
        let schema = Schema::new(props).ok()?;
        declare(
            &schema,
            place.root || props.x_kubernetes_embedded_resource == Some(true),
        )
    }

    fn keywords(&mut self, path: &Path<'_>, props: &JSONSchemaProps, place: &Place) {
        let errors = &mut self.schema_errors;
        if let Some(ty) = props
            .type_
            .as_deref()
            .filter(|ty| !ty.is_empty() && !TYPES.contains(ty))
        {
            errors.not_supported(&path.child("type"), ty, &TYPES);
        }
        if let Some(reason) = place.no_defaults.as_ref().filter(|_| props.default.is_some()) {
            errors.forbidden(&path.child("default"), format!("must not be set {reason}"));
        }
        let filled = |map: &Option<_>| Option::is_some(map);
        let unsupported = [
            ("id", props.id.as_ref().is_some_and(|id| !id.is_empty())),
            ("additionalItems", props.additional_items.is_some()),
            ("patternProperties", filled(&props.pattern_properties)),
            ("definitions", filled(&props.definitions)),
            ("dependencies", props.dependencies.is_some()),
            ("$ref", props.ref_path.is_some()),
        ];
        for (keyword, present) in unsupported {
            if present {
                errors.forbidden(&path.child(keyword), format!("{keyword} is not supported"));
            }
        }
        if props.type_.as_deref() == Some("null") {
            let detail = "type cannot be set to null, use nullable as an alternative";
            errors.forbidden(&path.child("type"), detail);
        }
        if let Some(JSONSchemaPropsOrArray::Schemas(_)) = &props.items {
            errors.forbidden(&path.child("items"), "items must be a schema object and not an array");
        }
        if place.inside_meta && props.x_kubernetes_embedded_resource == Some(true) {
            let path = path.child("x-kubernetes-embedded-resource");
            errors.forbidden(&path, "must not be used inside of resource meta");
        }
        if props.unique_items == Some(true) {
            errors.forbidden(
                &path.child("uniqueItems"),
                "uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
            );
        }
        let has_properties = props
            .properties
            .as_ref()
            .is_some_and(|properties| !properties.is_empty());
        let restricts = matches!(
            props.additional_properties,
            Some(JSONSchemaPropsOrBool::Schema(_) | JSONSchemaPropsOrBool::Bool(false))
        );
        if has_properties && restricts {
            errors.forbidden(
                &path.child("additionalProperties"),
                "additionalProperties and properties are mutual exclusive",
            );
        }
    }

    fn children(&mut self, path: &Path<'_>, props: &JSONSchemaProps, place: &Place, decl: Option<&Decl>) {
        let inside = Place {
            root: false,
            decl: None,
            cardinality: cardinality(props, place.cardinality),
            ..place.clone()
        };
        if let Some(JSONSchemaPropsOrBool::Schema(values)) = &props.additional_properties {
            let mut below = inside.clone();
            if place.inside_meta {
                below.no_defaults = Some("inside additionalProperties applying to object metadata".to_owned());
            }
            below.decl = decl.and_then(|decl| decl.values_decl().cloned());
            self.schema(&path.child("additionalProperties"), values, below);
        }
        let properties = path.child("properties");
        let is_resource = place.root || props.x_kubernetes_embedded_resource == Some(true);
        for (name, property) in props.properties.iter().flatten() {
            let mut below = inside.clone();
            if is_resource && matches!(name.as_str(), "metadata" | "kind" | "apiVersion") {
                below.inside_meta = true;
                if place.root {
                    below.no_defaults = Some(format!("in top-level {name}"));
                }
            }
            below.decl = decl.and_then(|decl| decl.field_decl(&catamaran_cel::escape(name)?).cloned());
            self.schema(&properties.key(name), property, below);
        }
        let nested = Place {
            cardinality: None,
            nested: true,
            ..inside.clone()
        };
        if let Some(not) = &props.not {
            self.schema(&path.child("not"), not, nested.clone());
        }
        for (keyword, parts) in [
            ("allOf", &props.all_of),
            ("oneOf", &props.one_of),
            ("anyOf", &props.any_of),
        ] {
            let path = path.child(keyword);
            for (index, part) in parts.iter().flatten().enumerate() {
                self.schema(&path.index(index), part, nested.clone());
            }
        }
        let definitions = path.child("definitions");
        for (name, definition) in props.definitions.iter().flatten() {
            self.schema(&definitions.key(name), definition, nested.clone());
        }
        let mut item = inside;
        if props.x_kubernetes_list_type.as_deref() != Some("map") && item.uncorrelatable.is_none() {
            item.uncorrelatable = Some(path.to_string());
        }
        match &props.items {
            Some(JSONSchemaPropsOrArray::Schema(items)) => {
                item.decl = decl.and_then(|decl| decl.items_decl().cloned());
                self.schema(&path.child("items"), items, item);
            }
            Some(JSONSchemaPropsOrArray::Schemas(all)) => {
                let path = path.child("items");
                for (index, items) in all.iter().enumerate() {
                    self.schema(&path.index(index), items, item.clone());
                }
            }
            None => {}
        }
        let dependencies = path.child("dependencies");
        for (name, dependency) in props.dependencies.iter().flatten() {
            if let JSONSchemaPropsOrStringArray::Schema(schema) = dependency {
                self.schema(&dependencies.key(name), schema, nested.clone());
            }
        }
    }

    fn list_and_map_types(&mut self, path: &Path<'_>, props: &JSONSchemaProps) {
        let errors = &mut self.schema_errors;
        if props.x_kubernetes_preserve_unknown_fields == Some(false) {
            let path = path.child("x-kubernetes-preserve-unknown-fields");
            errors.invalid(&path, false, "must be true or undefined");
        }
        let list_type = props.x_kubernetes_list_type.as_deref();
        let map_type = props.x_kubernetes_map_type.as_deref();
        let items = match &props.items {
            Some(JSONSchemaPropsOrArray::Schema(items)) => Some(&**items),
            _ => None,
        };
        if map_type.is_some() {
            wanted_type(path, props, "object", "x-kubernetes-map-type", errors);
        }
        if let Some(word) = map_type.filter(|word| !matches!(*word, "atomic" | "granular")) {
            errors.not_supported(&path.child("x-kubernetes-map-type"), word, &["atomic", "granular"]);
        }
        if list_type.is_some() && !wanted_type(path, props, "array", "x-kubernetes-list-type", errors) {
            // Nothing more can be said about its items.
        } else if let Some(items) = items.filter(|_| list_type == Some("set")) {
            set_items(&path.child("items"), items, errors);
        }
        if let Some(word) = list_type.filter(|word| !matches!(*word, "atomic" | "set" | "map")) {
            errors.not_supported(&path.child("x-kubernetes-list-type"), word, &["atomic", "set", "map"]);
        }
        let keys = props.x_kubernetes_list_map_keys.as_deref().unwrap_or_default();
        if !keys.is_empty() {
            let path = path.child("x-kubernetes-list-type");
            let detail = "must be map if x-kubernetes-list-map-keys is non-empty";
            match list_type {
                None => errors.required(&path, detail),
                Some("map") => {}
                Some(other) => errors.invalid(&path, other, detail),
            }
        }
        if list_type == Some("map") {
            map_items(path, props, items, keys, errors);
        }
        if let (Some(items), Some(word @ ("set" | "map"))) = (items, list_type) {
            keyed_items(&path.child("items"), items, word, keys, errors);
        }
    }

    fn rules(&mut self, path: &Path<'_>, props: &JSONSchemaProps, place: &Place, decl: Option<&Decl>) {
        let rules = props.x_kubernetes_validations.as_deref().unwrap_or_default();
        if rules.is_empty() {
            return;
        }
        let path = path.child("x-kubernetes-validations");
        let schema = Schema::new(props).ok();
        for (index, rule) in rules.iter().enumerate() {
            rule_fields(&path.index(index), rule, schema.as_ref(), &mut self.schema_errors);
        }
        if !self.schema_errors.is_empty() || self.costs.is_none() || place.nested {
            return;
        }
        let (Some(schema), Some(decl)) = (schema, decl) else {
            let detail = "internal error: failed to retrieve type information for x-kubernetes-validations";
            self.rule_errors.internal(&path, detail);
            return;
        };
        for (index, compiled) in compile_rules(rules, &schema, decl).iter().enumerate() {
            self.compiled(&path.index(index), &rules[index], compiled, place, decl);
        }
    }

    fn compiled(
        &mut self,
        path: &Path<'_>,
        rule: &ValidationRule,
        compiled: &CompiledRule,
        place: &Place,
        decl: &Decl,
    ) {
        let at = path.child("rule");
        match &compiled.program {
            Some(Ok(program)) => {
                let times = place.cardinality.unwrap_or_else(|| estimated_cardinality(decl));
                let cost = program.cost().max.saturating_mul(times);
                self.cost(&at, "estimated rule cost", cost);
            }
            Some(Err(rejection)) => internal::invalid(
                &mut self.rule_errors,
                &at,
                &internal::rule(rule),
                &rejection.to_string(),
            ),
            None => {}
        }
        let at_message = path.child("messageExpression");
        match &compiled.message {
            Some(Ok(program)) => self.cost(&at_message, "estimated messageExpression cost", program.cost().max),
            Some(Err(rejection)) => internal::invalid(
                &mut self.rule_errors,
                &at_message,
                &internal::rule(rule),
                &rejection.to_string(),
            ),
            None => {}
        }
        if compiled.uses_old {
            if let Some(portion) = &place.uncorrelatable {
                let detail =
                    format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {portion}");
                self.rule_errors.invalid(&at, rule.rule.as_str(), detail);
            }
        } else if let Some(optional) = rule.optional_old_self {
            let path = path.child("optionalOldSelf");
            self.rule_errors
                .invalid(&path, optional, "may not be set if oldSelf is not used in rule");
        }
    }

    fn cost(&mut self, path: &Path<'_>, what: &str, cost: u64) {
        if cost > RULE_COST_LIMIT {
            self.rule_errors
                .forbidden(path, cost_message(what, cost, RULE_COST_LIMIT));
        }
        if let Some(costs) = &mut self.costs {
            costs.add(path.to_string(), cost);
        }
    }
}

/// How often what is below a schema can occur.
fn cardinality(props: &JSONSchemaProps, here: Option<u64>) -> Option<u64> {
    let count = |number: i64| u64::try_from(number).unwrap_or_default();
    let most = match props.type_.as_deref().unwrap_or_default() {
        "object" if props.additional_properties.is_some() => props.max_properties.map(count),
        "array" => props.max_items.map(count),
        _ => Some(1),
    };
    Some(here?.saturating_mul(most?))
}

fn wanted_type(path: &Path<'_>, props: &JSONSchemaProps, wanted: &str, keyword: &str, errors: &mut Errors) -> bool {
    let found = props.type_.as_deref().unwrap_or_default();
    if found == wanted {
        return true;
    }
    let path = path.child("type");
    let detail = format!("must be {wanted} if {keyword} is specified");
    match found {
        "" => errors.required(&path, detail),
        other => errors.invalid(&path, other, detail),
    }
    false
}

fn set_items(path: &Path<'_>, items: &JSONSchemaProps, errors: &mut Errors) {
    let detail = "must be atomic as item of a list with x-kubernetes-list-type=set";
    let list_type = items.x_kubernetes_list_type.as_deref();
    match items.type_.as_deref() {
        Some("array") if list_type.is_some_and(|word| word != "atomic") => {
            errors.invalid(&path.child("x-kubernetes-list-type"), list_type, detail);
        }
        Some("object") if items.x_kubernetes_map_type.as_deref() != Some("atomic") => {
            errors.invalid(&path.child("x-kubernetes-map-type"), list_type, detail);
        }
        _ => {}
    }
}

fn map_items(
    path: &Path<'_>,
    props: &JSONSchemaProps,
    items: Option<&JSONSchemaProps>,
    keys: &[String],
    errors: &mut Errors,
) {
    let at_keys = path.child("x-kubernetes-list-map-keys");
    if keys.is_empty() {
        errors.required(&at_keys, "must not be empty if x-kubernetes-list-type is map");
    }
    let at_items = path.child("items");
    let Some(items) = items else {
        match &props.items {
            None => errors.required(&at_items, "must have a schema if x-kubernetes-list-type is map"),
            Some(items) => {
                let detail = "must only have a single schema if x-kubernetes-list-type is map";
                errors.invalid(&at_items, shown(items), detail);
            }
        }
        return;
    };
    let ty = items.type_.as_deref().unwrap_or_default();
    if ty != "object" {
        let detail = "must be object if parent array's x-kubernetes-list-type is map";
        errors.invalid(&at_items.child("type"), ty, detail);
        return;
    }
    for (index, key) in keys.iter().enumerate() {
        match items.properties.as_ref().and_then(|properties| properties.get(key)) {
            Some(property) if matches!(property.type_.as_deref(), Some("array" | "object")) => {
                let properties = at_items.child("properties");
                let detail = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                errors.invalid(&properties.key(key).child("type"), ty, detail);
            }
            Some(_) => {}
            None => errors.invalid(&at_keys, keys.to_vec(), "entries must all be names of item properties"),
        }
        if keys[..index].contains(key) {
            errors.invalid(&at_keys, keys.to_vec(), "must not contain duplicate entries");
        }
    }
}

/// Items have to be there, and so have their keys.
fn keyed_items(path: &Path<'_>, items: &JSONSchemaProps, list_type: &str, keys: &[String], errors: &mut Errors) {
    if items.nullable == Some(true) {
        let detail = format!("cannot be nullable when x-kubernetes-list-type is {list_type}");
        errors.forbidden(&path.child("nullable"), detail);
    }
    if list_type != "map" {
        return;
    }
    let properties = path.child("properties");
    for key in keys {
        let Some(property) = items.properties.as_ref().and_then(|properties| properties.get(key)) else {
            continue;
        };
        let path = properties.key(key);
        let required = items.required.as_ref().is_some_and(|required| required.contains(key));
        if !required && property.default.is_none() {
            errors.required(
                &path.child("default"),
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
            );
        }
        if property.nullable == Some(true) {
            errors.forbidden(
                &path.child("nullable"),
                "this property is in x-kubernetes-list-map-keys, so it cannot be nullable",
            );
        }
    }
}

fn rule_fields(path: &Path<'_>, rule: &ValidationRule, schema: Option<&Schema>, errors: &mut Errors) {
    let breaks = |text: &str| text.contains(['\n', '\r']);
    let message = rule.message.as_deref().unwrap_or_default();
    let at_message = path.child("message");
    if rule.rule.trim().is_empty() {
        errors.required(&path.child("rule"), "rule is not specified");
    } else if !message.is_empty() && message.trim().is_empty() {
        errors.invalid(&at_message, message, "must be non-empty if specified");
    } else if breaks(message.trim()) {
        errors.invalid(&at_message, message, "must not contain line breaks");
    } else if breaks(rule.rule.trim()) && message.trim().is_empty() {
        errors.required(&at_message, "message must be specified if rule contains line breaks");
    }
    if rule
        .message_expression
        .as_deref()
        .is_some_and(|text| !text.is_empty() && text.trim().is_empty())
    {
        errors.required(
            &path.child("messageExpression"),
            "messageExpression must be non-empty if specified",
        );
    }
    if let Some(reason) = rule.reason.as_deref().filter(|reason| !REASONS.contains(reason)) {
        errors.not_supported(&path.child("reason"), reason, &REASONS);
    }
    if let Some(field) = rule.field_path.as_deref().filter(|field| !field.is_empty()) {
        let path = path.child("fieldPath");
        if field.trim().is_empty() {
            errors.invalid(&path, field, "must be non-empty if specified");
        }
        if breaks(field) {
            errors.invalid(&path, field, "must not contain line breaks");
        }
        if schema.is_some_and(|schema| paths::follow(field, schema, true).is_err()) {
            errors.invalid(&path, field, "must be a valid path");
        }
    }
}
