//! ServiceAccount: who a pod is when it talks to the API.

use crate::kinds::Kind;
use k8s_openapi::api::core::v1::ServiceAccount;

pub(in crate::kinds) struct ServiceAccounts;

impl Kind for ServiceAccounts {
    type Object = ServiceAccount;
    const NAMESPACED: bool = true;
    const SHORT_NAMES: &'static [&'static str] = &["sa"];
}
