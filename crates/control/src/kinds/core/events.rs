//! Event (core/v1): what happened to an object, for people. Expires on its own.

use crate::kinds::Kind;
use k8s_openapi::api::core::v1::Event;

pub(in crate::kinds) struct Events;

impl Kind for Events {
    type Object = Event;
    const NAMESPACED: bool = true;
    const SHORT_NAMES: &'static [&'static str] = &["ev"];
    const FIELD_SELECTORS: &'static [&'static str] = &[
        "involvedObject.apiVersion",
        "involvedObject.fieldPath",
        "involvedObject.kind",
        "involvedObject.name",
        "involvedObject.namespace",
        "involvedObject.resourceVersion",
        "involvedObject.uid",
        "reason",
        "reportingComponent",
        "source",
        "type",
    ];
}
