//! What Role and ClusterRole have in common: rules, and a table that shows when a role was made instead of its age.

use crate::name;
use catamaran_api::table::Column;
use catamaran_api::{Errors, Path};
use k8s_openapi::api::rbac::v1::PolicyRule;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

pub(super) static COLUMNS: &[Column] = &[
    Column::NAME,
    Column::string("Created At", "When the role was created, in RFC 3339 form and UTC."),
];

pub(super) fn row(metadata: &ObjectMeta) -> Vec<Value> {
    // Go's zero time is what a table shows for an object that was never stored.
    let created = metadata
        .creation_timestamp
        .as_ref()
        .map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), |time| time.0.to_string());
    vec![name(metadata), created.into()]
}

pub(super) fn validate(rules: Option<&[PolicyRule]>, namespaced: bool, errors: &mut Errors) {
    let path = Path::new("rules");
    for (index, rule) in rules.unwrap_or_default().iter().enumerate() {
        validate_rule(rule, namespaced, &path.index(index), errors);
    }
}

fn validate_rule(rule: &PolicyRule, namespaced: bool, path: &Path<'_>, errors: &mut Errors) {
    let none = |list: &Option<Vec<String>>| list.as_ref().is_none_or(Vec::is_empty);
    if rule.verbs.is_empty() {
        errors.required(&path.child("verbs"), "verbs must contain at least one value");
    }
    let urls = rule.non_resource_urls.as_deref().unwrap_or_default();
    if !urls.is_empty() {
        let at = path.child("nonResourceURLs");
        if namespaced {
            errors.invalid(&at, urls.to_vec(), "namespaced rules cannot apply to non-resource URLs");
        }
        if !(none(&rule.api_groups) && none(&rule.resources) && none(&rule.resource_names)) {
            let detail = "rules cannot apply to both regular resources and non-resource URLs";
            errors.invalid(&at, urls.to_vec(), detail);
        }
        return;
    }
    if none(&rule.api_groups) {
        let detail = "resource rules must supply at least one api group";
        errors.required(&path.child("apiGroups"), detail);
    }
    if none(&rule.resources) {
        let detail = "resource rules must supply at least one resource";
        errors.required(&path.child("resources"), detail);
    }
}
