//! Which requests a webhook or policy is about.

use crate::checks::label_selector;
use catamaran_api::{Errors, Path, names};
use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MatchResources, NamedRuleWithOperations, RuleWithOperations,
};

pub(super) const FAILURE_POLICIES: [&str; 2] = ["Fail", "Ignore"];
pub(super) const MATCH_POLICIES: [&str; 2] = ["Equivalent", "Exact"];
const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const SCOPES: [&str; 3] = ["*", "Cluster", "Namespaced"];
const MAX_CONDITIONS: usize = 64;

/// The parts of a rule, whichever type has them.
pub(super) struct Rule<'a> {
    operations: &'a [String],
    groups: &'a [String],
    versions: &'a [String],
    resources: &'a [String],
    scope: Option<&'a str>,
}

impl<'a> From<&'a RuleWithOperations> for Rule<'a> {
    fn from(rule: &'a RuleWithOperations) -> Self {
        Rule {
            operations: rule.operations.as_deref().unwrap_or_default(),
            groups: rule.api_groups.as_deref().unwrap_or_default(),
            versions: rule.api_versions.as_deref().unwrap_or_default(),
            resources: rule.resources.as_deref().unwrap_or_default(),
            scope: rule.scope.as_deref(),
        }
    }
}

impl<'a> From<&'a NamedRuleWithOperations> for Rule<'a> {
    fn from(rule: &'a NamedRuleWithOperations) -> Self {
        Rule {
            operations: rule.operations.as_deref().unwrap_or_default(),
            groups: rule.api_groups.as_deref().unwrap_or_default(),
            versions: rule.api_versions.as_deref().unwrap_or_default(),
            resources: rule.resources.as_deref().unwrap_or_default(),
            scope: rule.scope.as_deref(),
        }
    }
}

pub(super) fn one_of(value: Option<&str>, supported: &[&str], path: &Path<'_>, errors: &mut Errors) {
    if let Some(value) = value.filter(|value| !supported.contains(value)) {
        errors.not_supported(path, value, supported);
    }
}

fn has_wildcard(list: &[String]) -> bool {
    list.iter().any(|item| item == "*")
}

fn alone(list: &[String], noun: &str, path: &Path<'_>, errors: &mut Errors) {
    if list.len() > 1 && has_wildcard(list) {
        let detail = format!("if '*' is present, must not specify other {noun}");
        errors.invalid(path, list.to_vec(), detail);
    }
}

pub(super) fn validate_rule<'a>(rule: impl Into<Rule<'a>>, path: &Path<'_>, errors: &mut Errors) {
    let rule = rule.into();
    let at = path.child("operations");
    if rule.operations.is_empty() {
        errors.required(&at, "");
    }
    alone(rule.operations, "operations", &at, errors);
    for (index, operation) in rule.operations.iter().enumerate() {
        one_of(Some(operation), &OPERATIONS, &at.index(index), errors);
    }
    let at = path.child("apiGroups");
    if rule.groups.is_empty() {
        errors.required(&at, "");
    }
    alone(rule.groups, "API groups", &at, errors);
    let at = path.child("apiVersions");
    if rule.versions.is_empty() {
        errors.required(&at, "");
    }
    alone(rule.versions, "API versions", &at, errors);
    for (index, _) in rule
        .versions
        .iter()
        .enumerate()
        .filter(|(_, version)| version.is_empty())
    {
        errors.required(&at.index(index), "");
    }
    validate_resources(rule.resources, &path.child("resources"), errors);
    one_of(rule.scope, &SCOPES, &path.child("scope"), errors);
}

fn validate_resources(resources: &[String], path: &Path<'_>, errors: &mut Errors) {
    if resources.is_empty() {
        errors.required(path, "");
    }
    let mut all_below: Vec<&str> = Vec::new();
    let mut below_all: Vec<&str> = Vec::new();
    let mut whole = false;
    for (index, text) in resources.iter().enumerate() {
        let at = path.index(index);
        if text.is_empty() {
            errors.required(&at, "");
            continue;
        }
        let Some((resource, subresource)) = text.split_once('/') else {
            // As Kubernetes has it: the last one decides.
            whole = text != "*";
            continue;
        };
        if all_below.contains(&resource) {
            let detail = format!("if '{resource}/*' is present, must not specify {text}");
            errors.invalid(&at, text.as_str(), detail);
        }
        if below_all.contains(&subresource) {
            let detail = format!("if '*/{subresource}' is present, must not specify {text}");
            errors.invalid(&at, text.as_str(), detail);
        }
        if subresource == "*" {
            all_below.push(resource);
        }
        if resource == "*" {
            below_all.push(subresource);
        }
    }
    if resources.len() > 1 && resources.iter().any(|text| text == "*/*") {
        let detail = "if '*/*' is present, must not specify other resources";
        errors.invalid(path, resources.to_vec(), detail);
    }
    if has_wildcard(resources) && whole {
        let detail = "if '*' is present, must not specify other resources without subresources";
        errors.invalid(path, resources.to_vec(), detail);
    }
}

pub(super) fn validate_conditions(conditions: &[MatchCondition], path: &Path<'_>, errors: &mut Errors) {
    if conditions.len() > MAX_CONDITIONS {
        errors.too_many(path, conditions.len(), MAX_CONDITIONS);
    }
    for (index, condition) in conditions.iter().enumerate() {
        let at = path.index(index);
        if condition.expression.trim().is_empty() {
            errors.required(&at.child("expression"), "");
        }
        let name = &condition.name;
        if name.is_empty() {
            errors.required(&at.child("name"), "");
            continue;
        }
        errors.invalid_each(&at.child("name"), name, names::qualified_name(name));
        if conditions[..index].iter().any(|other| other.name == *name) {
            errors.duplicate(&at.child("name"), name.as_str());
        }
    }
}

pub(super) fn default_resources(resources: &mut MatchResources) {
    resources.match_policy.get_or_insert_with(|| "Equivalent".to_owned());
    resources.namespace_selector.get_or_insert_default();
    resources.object_selector.get_or_insert_default();
    let rules = resources.resource_rules.iter_mut().flatten();
    for rule in rules.chain(resources.exclude_resource_rules.iter_mut().flatten()) {
        rule.scope.get_or_insert_with(|| "*".to_owned());
    }
}

pub(super) fn validate_match(resources: &MatchResources, path: &Path<'_>, errors: &mut Errors) {
    let policy = resources.match_policy.as_deref();
    if policy.is_none() {
        errors.required(&path.child("matchPolicy"), "");
    }
    one_of(policy, &MATCH_POLICIES, &path.child("matchPolicy"), errors);
    let selectors = [
        ("namespaceSelector", &resources.namespace_selector),
        ("objectSelector", &resources.object_selector),
    ];
    for (field, selector) in selectors {
        if selector.is_none() {
            errors.required(&path.child(field), "");
        }
        label_selector(selector.as_ref(), &path.child(field), errors);
    }
    let lists = [
        ("resourceRules", &resources.resource_rules),
        ("excludeResourceRules", &resources.exclude_resource_rules),
    ];
    for (field, rules) in lists {
        let list = path.child(field);
        for (index, rule) in rules.iter().flatten().enumerate() {
            validate_named_rule(rule, &list.index(index), errors);
        }
    }
}

fn validate_named_rule(rule: &NamedRuleWithOperations, path: &Path<'_>, errors: &mut Errors) {
    let names = rule.resource_names.as_deref().unwrap_or_default();
    let list = path.child("resourceNames");
    for (index, name) in names.iter().enumerate() {
        errors.invalid_each(&list.index(index), name, names::path_segment(name));
        if names[..index].contains(name) {
            errors.duplicate(&list.index(index), name.as_str());
        }
    }
    validate_rule(rule, path, errors);
}
