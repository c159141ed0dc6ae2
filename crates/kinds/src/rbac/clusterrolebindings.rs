//! ClusterRoleBinding: gives a cluster role to subjects everywhere.

use super::bindings;
use crate::{Kind, NameRule};
use catamaran_api::table::Column;
use catamaran_api::{Errors, names};
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

pub(crate) struct ClusterRoleBindings;

impl Kind for ClusterRoleBindings {
    type Object = ClusterRoleBinding;
    const NAMESPACED: bool = false;
    const CREATE_ON_UPDATE: bool = true;
    const NAME_RULE: NameRule = names::path_segment;

    fn default(&self, object: &mut ClusterRoleBinding) {
        bindings::default(&mut object.role_ref, object.subjects.as_mut());
    }

    fn validate(&self, object: &ClusterRoleBinding, errors: &mut Errors) {
        bindings::validate(&object.role_ref, &["ClusterRole"], errors);
        bindings::validate_subjects(object.subjects.as_deref(), false, errors);
    }

    fn validate_update(&self, new: &ClusterRoleBinding, old: &ClusterRoleBinding, errors: &mut Errors) {
        bindings::validate_update(&new.role_ref, &old.role_ref, errors);
    }

    fn columns(&self) -> &'static [Column] {
        bindings::COLUMNS
    }

    fn row(&self, object: &ClusterRoleBinding, now: Timestamp) -> Vec<Value> {
        bindings::row(&object.metadata, &object.role_ref, object.subjects.as_deref(), now)
    }
}
