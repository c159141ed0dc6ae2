//! ClusterRole: permissions in the whole cluster, or in any namespace that binds it.

use super::rules;
use crate::{Kind, NameRule};
use catamaran_api::table::Column;
use catamaran_api::{Errors, names};
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
    }

    fn columns(&self) -> &'static [Column] {
        rules::COLUMNS
    }

    fn row(&self, object: &ClusterRole, _now: Timestamp) -> Vec<Value> {
        rules::row(&object.metadata)
    }
}
