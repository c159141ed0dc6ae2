//! RoleBinding: gives a role to subjects in one namespace.

use super::bindings;
use crate::{Kind, NameRule};
use catamaran_api::table::Column;
use catamaran_api::{Errors, names};
use k8s_openapi::api::rbac::v1::RoleBinding;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

pub(crate) struct RoleBindings;

impl Kind for RoleBindings {
    type Object = RoleBinding;
    const NAMESPACED: bool = true;
    const CREATE_ON_UPDATE: bool = true;
    const NAME_RULE: NameRule = names::path_segment;

    fn default(&self, object: &mut RoleBinding) {
        bindings::default(&mut object.role_ref, object.subjects.as_mut());
    }

    fn validate(&self, object: &RoleBinding, errors: &mut Errors) {
        bindings::validate(&object.role_ref, &["Role", "ClusterRole"], errors);
        bindings::validate_subjects(object.subjects.as_deref(), true, errors);
    }

    fn validate_update(&self, new: &RoleBinding, old: &RoleBinding, errors: &mut Errors) {
        bindings::validate_update(&new.role_ref, &old.role_ref, errors);
    }

    fn columns(&self) -> &'static [Column] {
        bindings::COLUMNS
    }

    fn row(&self, object: &RoleBinding, now: Timestamp) -> Vec<Value> {
        bindings::row(&object.metadata, &object.role_ref, object.subjects.as_deref(), now)
    }
}
