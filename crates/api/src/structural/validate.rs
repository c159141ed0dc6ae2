//! Values against the keywords of a schema, in the words Kubernetes takes from its OpenAPI library.
//!
//! An update may leave wrong what was wrong before (a schema gets stricter, objects stay): wherever a value is equal to the one it
//! replaces, errors in it do not count (<https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation-ratcheting>).

use std::collections::HashSet;

use serde_json::{Map, Number, Value};

use super::{Additional, Rules, Schema, Type, formats};
use crate::field::{Errors, FieldError, Path, Reason, quote};

/// Adds everything that is wrong with a value. `old` is the value it replaces, if it replaces one.
pub fn validate(path: &Path<'_>, schema: &Schema, value: &Value, old: Option<&Value>, errors: &mut Errors) {
    errors.extend(place(path, schema, value, old).errors);
}

/// What was found in one place. `matched` counts the checks that applied: of several alternatives that all fail, the one with
/// most of them is reported.
#[derive(Default)]
struct Outcome {
    errors: Vec<FieldError>,
    matched: usize,
}

impl Outcome {
    fn merge(&mut self, other: Outcome) {
        self.errors.extend(other.errors);
        self.matched += other.matched;
    }

    fn is_valid(&self) -> bool {
        self.errors.is_empty()
    }

    fn invalid(&mut self, path: &Path<'_>, value: Value, what: &str) {
        self.errors.push(FieldError::new(
            Reason::Invalid,
            path,
            Some(value),
            format!("{path} in body {what}"),
        ));
    }

    fn too_many(&mut self, path: &Path<'_>, actual: usize, most: i64) {
        let unit = if most == 1 { "item" } else { "items" };
        let detail = format!("must have at most {most} {unit}");
        self.errors.push(FieldError::new(
            Reason::TooMany,
            path,
            Some(Value::from(actual)),
            detail,
        ));
    }

    /// An error of a whole place, which Kubernetes reports without the place.
    fn composite(&mut self, detail: String) {
        self.errors.push(FieldError {
            reason: Reason::Invalid,
            field: "<nil>".to_owned(),
            value: Some(Value::from("")),
            shown: None,
            detail,
        });
    }
}

fn place(path: &Path<'_>, schema: &Schema, value: &Value, old: Option<&Value>) -> Outcome {
    let mut outcome = Outcome::default();
    if old == Some(value) {
        return outcome;
    }
    check_type(path, schema, value, &mut outcome);
    let rules = schema.rules.as_deref();
    if value.is_null() {
        if let Some(rules) = rules {
            check_enum(path, rules, value, &mut outcome);
        }
        return outcome;
    }
    if let Some(rules) = rules {
        check_junctors(path, rules, value, old, &mut outcome);
        match value {
            Value::String(text) => check_string(path, schema, rules, text, &mut outcome),
            Value::Number(number) => check_number(path, rules, number, &mut outcome),
            Value::Array(items) => check_list(path, rules, items, &mut outcome),
            Value::Object(fields) => check_counts(path, rules, fields, &mut outcome),
            _ => {}
        }
        check_enum(path, rules, value, &mut outcome);
    }
    match value {
        Value::Array(items) => {
            if let Some(item_schema) = &schema.items {
                for (index, item) in items.iter().enumerate() {
                    let counterpart = schema.counterpart(item, old);
                    outcome.merge(place(&path.index(index), item_schema, item, counterpart));
                }
            }
        }
        Value::Object(fields) => check_fields(path, schema, fields, old, &mut outcome),
        _ => {}
    }
    outcome.matched += 1;
    outcome
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if !number.is_i64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn check_type(path: &Path<'_>, schema: &Schema, value: &Value, outcome: &mut Outcome) {
    outcome.matched += 1;
    let found = type_of(value);
    let (fits, wanted) = match (schema.ty, schema.int_or_string) {
        (_, true) => (
            matches!(found, "integer" | "string") || is_whole(value),
            "integer,string",
        ),
        (None, false) => return,
        (Some(Type::Integer), _) => (found == "integer" || is_whole(value), "integer"),
        (Some(Type::Number), _) => (matches!(found, "integer" | "number"), "number"),
        (Some(ty), _) => (found == ty.as_str(), ty.as_str()),
    };
    if fits || (value.is_null() && schema.nullable) {
        return;
    }
    let detail = format!("{path} in body must be of type {wanted}: {}", quote(found));
    outcome.errors.push(FieldError::new(
        Reason::TypeInvalid,
        path,
        Some(Value::from(found)),
        detail,
    ));
}

/// A number without a fraction, `1.0`.
fn is_whole(value: &Value) -> bool {
    value
        .as_f64()
        .is_some_and(|number| number.fract() == 0.0 && number.abs() < 9.007_199_254_740_992e15)
}

fn check_enum(path: &Path<'_>, rules: &Rules, value: &Value, outcome: &mut Outcome) {
    let Some(allowed) = &rules.allowed else { return };
    outcome.matched += 1;
    let same = |allowed: &Value| match (allowed, value) {
        (Value::Number(a), Value::Number(b)) => a == b || (a.as_f64() == b.as_f64() && a.as_f64().is_some()),
        (allowed, value) => allowed == value,
    };
    if allowed.iter().any(same) {
        return;
    }
    let shown: Vec<String> = allowed
        .iter()
        .map(|allowed| match allowed {
            Value::String(text) => quote(text),
            other => quote(&other.to_string()),
        })
        .collect();
    let detail = format!("supported values: {}", shown.join(", "));
    outcome
        .errors
        .push(FieldError::new(Reason::NotSupported, path, Some(value.clone()), detail));
}

fn check_string(path: &Path<'_>, schema: &Schema, rules: &Rules, text: &str, outcome: &mut Outcome) {
    let length = || i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
    outcome.matched += 1;
    if let Some(most) = rules.max_length
        && length() > most
    {
        let unit = if most == 1 { "byte" } else { "bytes" };
        let detail = format!("may not be more than {most} {unit}");
        outcome
            .errors
            .push(FieldError::new(Reason::TooLong, path, None, detail));
    } else if let Some(least) = rules.min_length
        && length() < least
    {
        outcome.invalid(path, text.into(), &format!("should be at least {least} chars long"));
    } else if let Some(pattern) = &rules.pattern {
        match pattern.regex() {
            Ok(regex) if regex.is_match(text) => {}
            Ok(_) => outcome.invalid(path, text.into(), &format!("should match '{}'", pattern.text)),
            Err(error) => {
                let what = format!("should match '{}, but pattern is invalid: {error}'", pattern.text);
                outcome.invalid(path, text.into(), &what);
            }
        }
    }
    let is_text = matches!(schema.ty, None | Some(Type::String));
    if let Some(format) = rules.format.as_deref().filter(|_| is_text)
        && formats::check(format, text) == Some(false)
    {
        let detail = format!("{path} in body must be of type {format}: {}", quote(text));
        outcome
            .errors
            .push(FieldError::new(Reason::TypeInvalid, path, Some(text.into()), detail));
    }
}

fn check_number(path: &Path<'_>, rules: &Rules, number: &Number, outcome: &mut Outcome) {
    outcome.matched += 1;
    let Some(value) = number.as_f64() else { return };
    let shown = || Value::Number(number.clone());
    // Of a whole number Kubernetes asks for a multiple of the factor's whole part, and a factor below one has none.
    let step = match rules.multiple_of {
        Some(step) if !number.is_f64() && step < 1.0 => {
            outcome.errors.push(FieldError::new(
                Reason::Invalid,
                path,
                Some(Value::from(0)),
                format!("factor MultipleOf declared for {path} must be positive: 0"),
            ));
            None
        }
        Some(step) if !number.is_f64() => Some(step.trunc()),
        step => step.filter(|step| *step > 0.0),
    };
    if let Some(step) = step
        && ((value / step) - (value / step).round()).abs() > 1e-9
    {
        outcome.invalid(path, shown(), &format!("should be a multiple of {}", plain(step)));
    }
    if let Some(most) = rules.maximum
        && (value > most || (rules.exclusive_maximum && value >= most))
    {
        let than = if rules.exclusive_maximum {
            "less than"
        } else {
            "less than or equal to"
        };
        outcome.invalid(path, shown(), &format!("should be {than} {}", plain(most)));
    }
    if let Some(least) = rules.minimum
        && (value < least || (rules.exclusive_minimum && value <= least))
    {
        let than = if rules.exclusive_minimum {
            "greater than"
        } else {
            "greater than or equal to"
        };
        outcome.invalid(path, shown(), &format!("should be {than} {}", plain(least)));
    }
}

/// A bound as Go writes it: no fraction where there is none.
fn plain(number: f64) -> String {
    if number == 0.0 || (1e-4..1e21).contains(&number.abs()) {
        return number.to_string();
    }
    let text = format!("{number:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, digits) = exponent
        .strip_prefix('-')
        .map_or(('+', exponent), |digits| ('-', digits));
    format!("{mantissa}e{sign}{digits:0>2}")
}

fn check_list(path: &Path<'_>, rules: &Rules, items: &[Value], outcome: &mut Outcome) {
    outcome.matched += 1;
    let count = i64::try_from(items.len()).unwrap_or(i64::MAX);
    if let Some(least) = rules.min_items
        && count < least
    {
        outcome.invalid(path, items.len().into(), &format!("should have at least {least} items"));
    }
    if let Some(most) = rules.max_items
        && count > most
    {
        outcome.too_many(path, items.len(), most);
    }
    if rules.unique_items {
        let mut seen = HashSet::with_capacity(items.len());
        if !items.iter().all(|item| seen.insert(item.to_string())) {
            outcome.invalid(path, "".into(), "shouldn't contain duplicates");
        }
    }
}

fn check_counts(path: &Path<'_>, rules: &Rules, fields: &Map<String, Value>, outcome: &mut Outcome) {
    let count = i64::try_from(fields.len()).unwrap_or(i64::MAX);
    if let Some(least) = rules.min_properties
        && count < least
    {
        outcome.invalid(
            path,
            fields.len().into(),
            &format!("should have at least {least} properties"),
        );
    }
    if let Some(most) = rules.max_properties
        && count > most
    {
        outcome.too_many(path, fields.len(), most);
    }
}

fn check_fields(
    path: &Path<'_>,
    schema: &Schema,
    fields: &Map<String, Value>,
    old: Option<&Value>,
    outcome: &mut Outcome,
) {
    let mut visit = |name: &str, value: &Value, schema: &Schema| {
        let old = old.and_then(|old| old.get(name));
        outcome.merge(place(&path.child(name), schema, value, old));
    };
    for (name, value) in fields
        .iter()
        .filter(|(name, _)| !schema.properties.contains_key(name.as_str()))
    {
        if let Some(additional) = schema.additional_schema() {
            visit(name, value, additional);
        }
    }
    for (name, property) in &schema.properties {
        if let Some(value) = fields.get(&**name) {
            visit(name, value, property);
        }
    }
    if matches!(schema.additional, Some(Additional::None)) {
        for name in fields
            .keys()
            .filter(|name| !schema.properties.contains_key(name.as_str()))
        {
            let detail = format!("{path}.{name} in body is a forbidden property");
            let value = Some(Value::from(name.as_str()));
            outcome
                .errors
                .push(FieldError::new(Reason::Invalid, path, value, detail));
        }
    }
    for name in schema.rules.iter().flat_map(|rules| &rules.required) {
        if !fields.contains_key(name) {
            let path = path.child(name);
            outcome.errors.push(FieldError::new(Reason::Required, &path, None, ""));
        }
    }
    outcome.matched += 1;
}

fn check_junctors(path: &Path<'_>, rules: &Rules, value: &Value, old: Option<&Value>, outcome: &mut Outcome) {
    outcome.matched += 1;
    let name = || quote(&path.to_string());
    if !rules.any_of.is_empty() {
        let mut best: Option<Outcome> = None;
        let mut valid = false;
        for alternative in &rules.any_of {
            let found = place(path, alternative, value, old);
            if found.is_valid() {
                best = Some(found);
                valid = true;
                break;
            }
            if best.as_ref().is_none_or(|best| found.matched > best.matched) {
                best = Some(found);
            }
        }
        if !valid {
            outcome.composite(format!("{} must validate at least one schema (anyOf)", name()));
        }
        outcome.merge(best.unwrap_or_default());
    }
    if !rules.one_of.is_empty() {
        let mut best: Option<Outcome> = None;
        let mut valid = 0;
        for alternative in &rules.one_of {
            let found = place(path, alternative, value, old);
            if found.is_valid() {
                valid += 1;
            } else if best.as_ref().is_none_or(|best| found.matched > best.matched) {
                best = Some(found);
            }
        }
        if valid != 1 {
            let found = match valid {
                0 => "Found none valid".to_owned(),
                valid => format!("Found {valid} valid alternatives"),
            };
            outcome.composite(format!(
                "{} must validate one and only one schema (oneOf). {found}",
                name()
            ));
            if let Some(best) = best.filter(|_| valid == 0) {
                outcome.merge(best);
            }
        }
    }
    if !rules.all_of.is_empty() {
        let mut valid = 0;
        for part in &rules.all_of {
            let found = place(path, part, value, old);
            valid += usize::from(found.is_valid());
            outcome.merge(found);
        }
        if valid != rules.all_of.len() {
            let none = if valid == 0 { ". None validated" } else { "" };
            outcome.composite(format!("{} must validate all the schemas (allOf){none}", name()));
        }
    }
    if let Some(not) = &rules.not
        && place(path, not, value, None).is_valid()
    {
        outcome.composite(format!("{} must not validate the schema (not)", name()));
    }
}
