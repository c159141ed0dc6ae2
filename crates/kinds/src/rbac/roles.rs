//! Role: permissions in one namespace.

use super::rules;
use crate::{Kind, NameRule};
use catamaran_api::table::Column;
use catamaran_api::{Errors, names};
use k8s_openapi::api::rbac::v1::Role;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

pub(crate) struct Roles;

impl Kind for Roles {
    type Object = Role;
    const NAMESPACED: bool = true;
    const CREATE_ON_UPDATE: bool = true;
    const NAME_RULE: NameRule = names::path_segment;

    fn validate(&self, object: &Role, errors: &mut Errors) {
        rules::validate(object.rules.as_deref(), true, errors);
    }

    fn columns(&self) -> &'static [Column] {
        rules::COLUMNS
    }

    fn row(&self, object: &Role, _now: Timestamp) -> Vec<Value> {
        rules::row(&object.metadata)
    }
}
