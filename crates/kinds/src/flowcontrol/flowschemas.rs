//! FlowSchema: which requests belong together, and which priority level they have.

use crate::checks::{reset_metadata_for_status, shown};
use crate::{Kind, STATUS, Subresource, age, differs, name};
use catamaran_api::table::Column;
use catamaran_api::{Errors, Path, names};
use k8s_openapi::api::flowcontrol::v1::{
    FlowSchema, FlowSchemaSpec, FlowSchemaStatus, NonResourcePolicyRule, PolicyRulesWithSubjects, ResourcePolicyRule,
    ServiceAccountSubject, Subject,
};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

pub(crate) struct FlowSchemas;

const MAX_PRECEDENCE: i32 = 10_000;
const VERBS: [&str; 9] = [
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "proxy",
    "update",
    "watch",
];

impl Kind for FlowSchemas {
    type Object = FlowSchema;
    const NAMESPACED: bool = false;
    const UNCONDITIONAL_UPDATE: bool = false;
    const SUBRESOURCES: &'static [Subresource] = &[STATUS];

    fn default(&self, object: &mut FlowSchema) {
        if let Some(spec) = &mut object.spec
            && spec.matching_precedence.unwrap_or_default() == 0
        {
            spec.matching_precedence = Some(1000);
        }
    }

    fn prepare_create(&self, object: &mut FlowSchema) {
        object.status = Some(FlowSchemaStatus::default());
    }

    fn prepare_update(&self, new: &mut FlowSchema, old: &FlowSchema) {
        new.status.clone_from(&old.status);
    }

    fn prepare_status(&self, new: &mut FlowSchema, old: &FlowSchema) {
        new.spec.clone_from(&old.spec);
        reset_metadata_for_status(&mut new.metadata, &old.metadata);
    }

    fn spec_changed(&self, new: &FlowSchema, old: &FlowSchema) -> Option<bool> {
        differs(&new.spec, &old.spec)
    }

    fn validate(&self, object: &FlowSchema, errors: &mut Errors) {
        let empty = FlowSchemaSpec::default();
        let spec = object.spec.as_ref().unwrap_or(&empty);
        let name = object.metadata.name.as_deref().unwrap_or_default();
        validate_spec(name, spec, errors);
        if mandatory(name).is_some_and(|fixed| fixed != *spec) {
            let detail = format!("spec of '{name}' must equal the fixed value");
            errors.invalid(&Path::new("spec"), shown(spec), detail);
        }
        validate_status(object, errors);
    }

    fn validate_status(&self, new: &FlowSchema, _old: &FlowSchema, errors: &mut Errors) {
        validate_status(new, errors);
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            Column::NAME,
            Column::string("PriorityLevel", "The priority level of these requests."),
            Column::string("MatchingPrecedence", "Schemas with lower numbers are looked at first."),
            Column::string("DistinguisherMethod", "What tells one flow from another."),
            Column::AGE,
            Column::string("MissingPL", "Whether the priority level is not there."),
        ];
        COLUMNS
    }

    fn row(&self, object: &FlowSchema, now: Timestamp) -> Vec<Value> {
        let spec = object.spec.clone().unwrap_or_default();
        let method = spec.distinguisher_method.map(|method| method.type_);
        let conditions = object.status.as_ref().and_then(|status| status.conditions.as_deref());
        let dangling = conditions
            .unwrap_or_default()
            .iter()
            .find(|condition| condition.type_.as_deref() == Some("Dangling"));
        let dangling = dangling.map_or("?", |condition| condition.status.as_deref().unwrap_or_default());
        vec![
            name(&object.metadata),
            spec.priority_level_configuration.name.into(),
            spec.matching_precedence.unwrap_or_default().into(),
            method.unwrap_or_else(|| "<none>".to_owned()).into(),
            age(&object.metadata, now),
            dangling.into(),
        ]
    }
}

/// Two schemas that every cluster has, as they have to be.
fn mandatory(name: &str) -> Option<FlowSchemaSpec> {
    let everything = |groups: &[&str]| {
        let subjects: Vec<Value> = groups
            .iter()
            .map(|group| json!({"kind": "Group", "group": {"name": group}}))
            .collect();
        json!([{
            "subjects": subjects,
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true, "namespaces": ["*"]}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
        }])
    };
    let spec = match name {
        "exempt" => json!({
            "priorityLevelConfiguration": {"name": "exempt"}, "matchingPrecedence": 1,
            "rules": everything(&["system:masters"]),
        }),
        "catch-all" => json!({
            "priorityLevelConfiguration": {"name": "catch-all"}, "matchingPrecedence": 10_000,
            "distinguisherMethod": {"type": "ByUser"},
            "rules": everything(&["system:unauthenticated", "system:authenticated"]),
        }),
        _ => return None,
    };
    serde_json::from_value(spec).ok()
}

fn validate_spec(name: &str, spec: &FlowSchemaSpec, errors: &mut Errors) {
    let path = Path::new("spec");
    let at = path.child("matchingPrecedence");
    let precedence = spec.matching_precedence.unwrap_or_default();
    if precedence <= 0 {
        errors.invalid(&at, precedence, "must be a positive value");
    }
    if precedence > MAX_PRECEDENCE {
        errors.invalid(&at, precedence, format!("must not be greater than {MAX_PRECEDENCE}"));
    }
    if precedence == 1 && name != "exempt" {
        let detail = "only the schema named 'exempt' may have matchingPrecedence 1";
        errors.invalid(&at, precedence, detail);
    }
    if let Some(method) = &spec.distinguisher_method {
        let supported = ["ByNamespace", "ByUser"];
        if !supported.contains(&method.type_.as_str()) {
            let at = path.child("distinguisherMethod");
            errors.not_supported(&at.child("type"), json!({"Type": method.type_}), &supported);
        }
    }
    let level = &spec.priority_level_configuration.name;
    let at = path.child("priorityLevelConfiguration");
    if level.is_empty() {
        errors.required(&at.child("name"), "must reference a priority level");
    } else {
        errors.invalid_each(&at.child("name"), level, names::dns1123_subdomain(level));
    }
    let list = path.child("rules");
    for (index, rule) in spec.rules.iter().flatten().enumerate() {
        validate_rule(rule, &list.index(index), errors);
    }
}

fn validate_rule(rule: &PolicyRulesWithSubjects, path: &Path<'_>, errors: &mut Errors) {
    let list = path.child("subjects");
    if rule.subjects.is_empty() {
        errors.required(&list, "subjects must contain at least one value");
    }
    for (index, subject) in rule.subjects.iter().enumerate() {
        validate_subject(subject, &list.index(index), errors);
    }
    let resources = rule.resource_rules.as_deref().unwrap_or_default();
    let urls = rule.non_resource_rules.as_deref().unwrap_or_default();
    if resources.is_empty() && urls.is_empty() {
        let detail = "at least one of resourceRules and nonResourceRules has to be non-empty";
        errors.required(path, detail);
    }
    let list = path.child("resourceRules");
    for (index, rule) in resources.iter().enumerate() {
        validate_resource_rule(rule, &list.index(index), errors);
    }
    let list = path.child("nonResourceRules");
    for (index, rule) in urls.iter().enumerate() {
        validate_url_rule(rule, &list.index(index), errors);
    }
}

fn validate_subject(subject: &Subject, path: &Path<'_>, errors: &mut Errors) {
    let set = [
        ("serviceAccount", "ServiceAccount", subject.service_account.is_some()),
        ("user", "User", subject.user.is_some()),
        ("group", "Group", subject.group.is_some()),
    ];
    let Some((field, kind, present)) = set.iter().find(|(_, kind, _)| *kind == subject.kind) else {
        let supported = ["Group", "ServiceAccount", "User"];
        return errors.not_supported(&path.child("kind"), subject.kind.as_str(), &supported);
    };
    let at = path.child(field);
    if !present {
        errors.required(&at, format!("{field} is required when subject kind is '{kind}'"));
    } else if let Some(account) = subject.service_account.as_ref().filter(|_| *kind == "ServiceAccount") {
        validate_account(account, &at, errors);
    } else {
        let user = subject.user.as_ref().map(|user| &user.name).filter(|_| *kind == "User");
        let name = user.or_else(|| subject.group.as_ref().map(|group| &group.name));
        if name.is_none_or(String::is_empty) {
            errors.required(&at.child("name"), "");
        }
    }
    for (other, kind, present) in &set {
        if *present && other != field {
            let detail = format!("{other} is forbidden when subject kind is not '{kind}'");
            errors.forbidden(&path.child(other), detail);
        }
    }
}

fn validate_account(account: &ServiceAccountSubject, path: &Path<'_>, errors: &mut Errors) {
    let (name, namespace) = (account.name.as_str(), account.namespace.as_str());
    if name.is_empty() {
        errors.required(&path.child("name"), "");
    } else if name != "*" {
        errors.invalid_each(&path.child("name"), name, names::dns1123_subdomain(name));
    }
    let at = path.child("namespace");
    if namespace.is_empty() {
        errors.required(&at, "must specify namespace for service account");
    } else {
        errors.invalid_each(&at, namespace, names::dns1123_label(namespace));
    }
}

fn has_wildcard(list: &[String]) -> bool {
    list.iter().any(|item| item == "*")
}

fn validate_verbs(verbs: &[String], path: &Path<'_>, errors: &mut Errors) {
    if verbs.is_empty() {
        errors.required(path, "verbs must contain at least one value");
    } else if has_wildcard(verbs) {
        if verbs.len() > 1 {
            let detail = "if '*' is present, must not specify other verbs";
            errors.invalid(path, verbs.to_vec(), detail);
        }
    } else if verbs.iter().any(|verb| !VERBS.contains(&verb.as_str())) {
        errors.not_supported(path, verbs.to_vec(), &VERBS);
    }
}

fn validate_url_rule(rule: &NonResourcePolicyRule, path: &Path<'_>, errors: &mut Errors) {
    validate_verbs(&rule.verbs, &path.child("verbs"), errors);
    let urls = &rule.non_resource_urls;
    let at = path.child("nonResourceURLs");
    if urls.is_empty() {
        errors.required(&at, "nonResourceURLs must contain at least one value");
    } else if has_wildcard(urls) {
        if urls.len() > 1 {
            let detail = "if '*' is present, must not specify other non-resource URLs";
            errors.invalid(&at, urls.clone(), detail);
        }
    } else {
        for (index, url) in urls.iter().enumerate() {
            if let Some(detail) = url_path(url) {
                errors.invalid(&at.index(index), url.as_str(), detail);
            }
        }
    }
}

fn url_path(url: &str) -> Option<&'static str> {
    let stars = url.matches('*').count();
    if url.is_empty() {
        Some("must not be empty")
    } else if url == "/" {
        None
    } else if !url.starts_with('/') {
        Some("must start with slash")
    } else if url.contains(' ') {
        Some("must not contain white-space")
    } else if url.contains("//") {
        Some("must not contain double slash")
    } else if stars > 1 || (stars == 1 && !url.ends_with("/*")) {
        Some("wildcard can only do suffix matching")
    } else {
        None
    }
}

fn validate_resource_rule(rule: &ResourcePolicyRule, path: &Path<'_>, errors: &mut Errors) {
    validate_verbs(&rule.verbs, &path.child("verbs"), errors);
    let lists = [
        ("apiGroups", &rule.api_groups, "api group"),
        ("resources", &rule.resources, "resource"),
    ];
    for (field, list, noun) in lists {
        let at = path.child(field);
        if list.is_empty() {
            errors.required(&at, format!("resource rules must supply at least one {noun}"));
        } else if list.len() > 1 && has_wildcard(list) {
            let detail = format!("if '*' is present, must not specify other {noun}s");
            errors.invalid(&at, list.clone(), detail);
        }
    }
    let namespaces = rule.namespaces.as_deref().unwrap_or_default();
    let at = path.child("namespaces");
    if namespaces.is_empty() && rule.cluster_scope != Some(true) {
        let detail = "resource rules that are not cluster scoped must supply at least one namespace";
        errors.required(&at, detail);
    } else if has_wildcard(namespaces) {
        if namespaces.len() > 1 {
            let detail = "if '*' is present, must not specify other namespaces";
            errors.invalid(&at, namespaces.to_vec(), detail);
        }
    } else {
        for (index, namespace) in namespaces.iter().enumerate() {
            for message in names::dns1123_label(namespace) {
                let detail = format!("each member of this list must be '*' or a DNS-1123 label; {message}");
                errors.invalid(&at.index(index), namespace.as_str(), detail);
            }
        }
    }
}

fn validate_status(object: &FlowSchema, errors: &mut Errors) {
    let conditions = object.status.as_ref().and_then(|status| status.conditions.as_deref());
    let types = conditions
        .unwrap_or_default()
        .iter()
        .map(|condition| condition.type_.as_deref());
    validate_condition_types(types, errors);
}

/// Conditions are told apart by their types, which are not empty.
pub(super) fn validate_condition_types<'a>(types: impl Iterator<Item = Option<&'a str>>, errors: &mut Errors) {
    let path = Path::new("status");
    let path = path.child("conditions");
    let mut seen = Vec::new();
    for (index, kind) in types.enumerate() {
        let kind = kind.unwrap_or_default();
        let at = path.index(index);
        if seen.contains(&kind) {
            errors.duplicate(&at.child("type"), kind);
        }
        seen.push(kind);
        if kind.is_empty() {
            errors.required(&at.child("type"), "must not be empty");
        }
    }
}
