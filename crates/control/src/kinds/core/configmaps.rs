//! ConfigMap: data for containers, on its own.

use crate::kinds::Kind;
use k8s_openapi::api::core::v1::ConfigMap;

pub(in crate::kinds) struct ConfigMaps;

impl Kind for ConfigMaps {
    type Object = ConfigMap;
    const NAMESPACED: bool = true;
    const SHORT_NAMES: &'static [&'static str] = &["cm"];
}
