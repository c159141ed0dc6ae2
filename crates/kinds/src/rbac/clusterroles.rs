//! ClusterRole: permissions in the whole cluster, or in any namespace that binds it.

use super::rules;
use crate::checks::label_selector;
use crate::{Kind, NameRule};
use catamaran_api::selector::Selector;
use catamaran_api::table::Column;
use catamaran_api::{Errors, Path, names};
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

pub(crate) struct ClusterRoles;

impl Kind for ClusterRoles {
    type Object = ClusterRole;
    const NAMESPACED: bool = false;
    const CREATE_ON_UPDATE: bool = true;
    const NAME_RULE: NameRule = names::path_segment;

    fn validate(&self, object: &ClusterRole, errors: &mut Errors) {
        rules::validate(object.rules.as_deref(), false, errors);
        let Some(rule) = &object.aggregation_rule else { return };
        let path = Path::new("aggregationRule");
        let path = path.child("clusterRoleSelectors");
        let selectors = rule.cluster_role_selectors.as_deref().unwrap_or_default();
        if selectors.is_empty() {
            let detail = "at least one clusterRoleSelector required if aggregationRule is non-nil";
            errors.required(&path, detail);
        }
        for (index, selector) in selectors.iter().enumerate() {
            let at = path.index(index);
            label_selector(Some(selector), &at, errors);
            if Selector::from_object(selector, &Path::ROOT).is_err() {
                errors.invalid(&at, Value::Null, "invalid label selector.");
            }
        }
    }

    fn columns(&self) -> &'static [Column] {
        rules::COLUMNS
    }

    fn row(&self, object: &ClusterRole, _now: Timestamp) -> Vec<Value> {
        rules::row(&object.metadata)
    }
}
