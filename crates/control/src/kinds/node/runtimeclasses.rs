//! RuntimeClass: which runtime a pod's containers may use.

use crate::kinds::Kind;
use k8s_openapi::api::node::v1::RuntimeClass;

pub(in crate::kinds) struct RuntimeClasses;

impl Kind for RuntimeClasses {
    type Object = RuntimeClass;
    const NAMESPACED: bool = false;
}
