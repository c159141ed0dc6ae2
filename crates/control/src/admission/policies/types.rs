//! Would a policy's expressions work on the objects they will meet?
//!
//! Expressions are accepted without knowing what `object` is, for a policy may be about many kinds. Once it is there, each
//! expression is checked against the types that the policy names; what does not fit becomes a warning in its status and
//! changes nothing else.

use super::super::expressions::{Expression, policy_env};
use super::compiled::variables;
use crate::registry::Table;
use crate::registry::resource::Resource;
use catamaran_api::schema::published;
use catamaran_cel::{Decl, Env, ListSemantics, Shape};
use k8s_openapi::api::admissionregistration::v1::{ExpressionWarning, ValidatingAdmissionPolicySpec};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// At most this many kinds are looked at.
const MOST_KINDS: usize = 10;

/// Warnings about validations and their messages.
pub(super) fn warnings(spec: &ValidatingAdmissionPolicySpec, table: &Table) -> Vec<ExpressionWarning> {
    let kinds: Vec<(String, Decl)> = kinds(spec, table)
        .into_iter()
        .map(|(name, resource)| (name, of_resource(&resource)))
        .collect();
    let params = spec.param_kind.as_ref().map(|kind| {
        let api_version = kind.api_version.as_deref().unwrap_or_default();
        let resource = table.of_kind(api_version, kind.kind.as_deref().unwrap_or_default());
        resource.map_or_else(Decl::dynamic, |resource| of_resource(resource))
    });
    let envs: Vec<(&String, Env)> = kinds
        .iter()
        .map(|(name, decl)| (name, env(spec, decl, params.as_ref())))
        .collect();
    let mut warnings = Vec::new();
    for (index, validation) in spec.validations.iter().flatten().enumerate() {
        let message = validation.message_expression.as_deref().filter(|text| !text.is_empty());
        for (field, text) in [
            ("expression", Some(validation.expression.as_str())),
            ("messageExpression", message),
        ] {
            let Some(text) = text else { continue };
            let found: Vec<String> = envs
                .iter()
                .filter_map(|(kind, env)| {
                    let issue = Expression::compile(text, env, &[]).program.err()?;
                    Some(format!("{kind}: {issue}\n"))
                })
                .collect();
            if !found.is_empty() {
                warnings.push(ExpressionWarning {
                    field_ref: format!("spec.validations[{index}].{field}"),
                    warning: found.join("\n"),
                });
            }
        }
    }
    warnings
}

fn env(spec: &ValidatingAdmissionPolicySpec, object: &Decl, params: Option<&Decl>) -> Env {
    let mut env = policy_env(false, true)
        .with("object", object.clone())
        .with("oldObject", object.clone());
    if let Some(params) = params {
        env = env.with("params", params.clone());
    }
    let (_, declared) = variables(spec.variables.as_deref().unwrap_or_default(), &env);
    env.with("variables", super::compiled::variables_decl(&declared))
}

/// The kinds that the rules name without wildcards, by `group/version, Kind=kind`.
fn kinds(spec: &ValidatingAdmissionPolicySpec, table: &Table) -> BTreeMap<String, Arc<Resource>> {
    let mut found = BTreeMap::new();
    let rules = spec
        .match_constraints
        .iter()
        .flat_map(|constraints| &constraints.resource_rules);
    for rule in rules.flatten() {
        let plain = |list: &Option<Vec<String>>| -> Vec<String> {
            let list = list.clone().unwrap_or_default();
            if list.iter().any(|item| item.contains('*')) {
                return Vec::new();
            }
            list.into_iter().filter(|item| !item.contains('/')).collect()
        };
        let (groups, versions, plurals) = (
            plain(&rule.api_groups),
            plain(&rule.api_versions),
            plain(&rule.resources),
        );
        for group in &groups {
            for version in &versions {
                let api_version = if group.is_empty() {
                    version.clone()
                } else {
                    format!("{group}/{version}")
                };
                for resource in plurals.iter().filter_map(|plural| table.find(&api_version, plural)) {
                    if found.len() < MOST_KINDS {
                        let name = format!("{group}/{version}, Kind={}", resource.info.kind);
                        found.insert(name, Arc::clone(resource));
                    }
                }
            }
        }
    }
    found
}

/// The type of a resource's objects, from its schema.
fn of_resource(resource: &Resource) -> Decl {
    let definitions = published::with_references([&*resource.info.schema]);
    let mut reader = Reader {
        definitions: &definitions,
        known: HashMap::new(),
        under_way: HashSet::new(),
    };
    reader.definition(&resource.info.schema)
}

struct Reader<'a> {
    definitions: &'a Map<String, Value>,
    known: HashMap<String, Decl>,
    under_way: HashSet<String>,
}

impl Reader<'_> {
    fn definition(&mut self, name: &str) -> Decl {
        if let Some(known) = self.known.get(name) {
            return known.clone();
        }
        let Some(schema) = self
            .definitions
            .get(name)
            .filter(|_| self.under_way.insert(name.to_owned()))
        else {
            // Unknown, or a type within itself.
            return Decl::dynamic();
        };
        let decl = self.decl(schema, name);
        self.under_way.remove(name);
        self.known.insert(name.to_owned(), decl.clone());
        decl
    }

    fn decl(&mut self, schema: &Value, name: &str) -> Decl {
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            let name = reference.rsplit('/').next().unwrap_or_default().replace("~1", "/");
            return self.definition(&name);
        }
        if let Some([only]) = schema.get("allOf").and_then(Value::as_array).map(Vec::as_slice) {
            return self.decl(only, name);
        }
        let format = schema.get("format").and_then(Value::as_str).unwrap_or_default();
        match type_of(schema) {
            Some("boolean") => Decl::new(Shape::Bool, 0, 4),
            Some("integer") => Decl::new(Shape::Int, 0, 1),
            Some("number") => Decl::new(Shape::Double, 0, 1),
            Some("string") => match format {
                "byte" => Decl::new(Shape::Bytes, 0, 2),
                "date-time" => Decl::new(Shape::Timestamp, 0, 2),
                _ => Decl::string(0),
            },
            Some("array") => {
                let items = schema
                    .get("items")
                    .map_or_else(Decl::dynamic, |items| self.decl(items, name));
                Decl::list(items, ListSemantics::Atomic, 0)
            }
            Some("object") => self.object(schema, name),
            _ => Decl::dynamic(),
        }
    }

    fn object(&mut self, schema: &Value, name: &str) -> Decl {
        if let Some(properties) = schema
            .get("properties")
            .and_then(Value::as_object)
            .filter(|own| !own.is_empty())
        {
            let fields: Vec<(String, Decl)> = properties
                .iter()
                .map(|(field, schema)| (field.clone(), self.decl(schema, &format!("{name}.{field}"))))
                .collect();
            return Decl::object(name.rsplit('.').next().unwrap_or(name), fields, 2);
        }
        match schema.get("additionalProperties").filter(|values| values.is_object()) {
            Some(values) => Decl::map(self.decl(values, name), 0),
            None => Decl::dynamic(),
        }
    }
}

/// The one type of a value, apart from null.
fn type_of(schema: &Value) -> Option<&str> {
    match schema.get("type")? {
        Value::String(own) => Some(own),
        Value::Array(several) => {
            let mut real = several.iter().filter_map(Value::as_str).filter(|own| *own != "null");
            match (real.next(), real.next()) {
                (Some(only), None) => Some(only),
                _ => None,
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds;
    use serde_json::json;

    fn check(plural: &str, validation: Value) -> Vec<(String, String)> {
        let resources = kinds::ALL
            .iter()
            .map(|kind| Arc::new(Resource::builtin(*kind)))
            .collect();
        let table = Table::new(1, resources);
        let spec = json!({
            "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": [plural]}]},
            "variables": [{"name": "spec", "expression": "object.spec"}],
            "validations": [validation],
        });
        let spec = serde_json::from_value(spec).unwrap();
        let found = warnings(&spec, &table);
        found
            .into_iter()
            .map(|warning| (warning.field_ref, warning.warning))
            .collect()
    }

    #[test]
    fn expressions_meet_the_types_of_their_policy() {
        let sound = json!({"expression": "object.spec.containers.all(c, c.image.startsWith('a')) && variables.spec.hostNetwork == false",
            "messageExpression": "object.metadata.name"});
        assert_eq!(check("pods", sound), []);
        let found = check(
            "pods",
            json!({"expression": "object.spec.replicas > 1", "messageExpression": "object.metadata.nam"}),
        );
        assert_eq!(found[0].0, "spec.validations[0].expression");
        assert!(
            found[0]
                .1
                .starts_with("/v1, Kind=Pod: compilation failed: ERROR: <input>:1:12: undefined field 'replicas'"),
            "{}",
            found[0].1
        );
        assert_eq!(found[1].0, "spec.validations[0].messageExpression");
        assert_eq!(check("*", json!({"expression": "object.whatever"})), []);
    }
}
