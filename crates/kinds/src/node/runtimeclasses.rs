//! RuntimeClass: which runtime a pod's containers may use.

use crate::{Kind, age, name};
use catamaran_api::table::Column;
use catamaran_api::{Errors, Path, names};
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

pub(crate) struct RuntimeClasses;

impl Kind for RuntimeClasses {
    type Object = RuntimeClass;
    const NAMESPACED: bool = false;
    const UNCONDITIONAL_UPDATE: bool = false;

    fn validate(&self, object: &RuntimeClass, errors: &mut Errors) {
        errors.invalid_each(
            &Path::new("handler"),
            &object.handler,
            names::dns1123_label(&object.handler),
        );
        let selector = object
            .scheduling
            .as_ref()
            .and_then(|scheduling| scheduling.node_selector.as_ref());
        let path = Path::new("scheduling");
        for (key, value) in selector.into_iter().flatten() {
            let at = path.child("nodeSelector");
            errors.invalid_each(&at, key, names::qualified_name(key));
            errors.invalid_each(&at, value, names::label_value(value));
        }
    }

    fn validate_update(&self, new: &RuntimeClass, old: &RuntimeClass, errors: &mut Errors) {
        if new.handler != old.handler {
            errors.invalid(&Path::new("handler"), new.handler.as_str(), "field is immutable");
        }
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            Column::NAME,
            Column::string("Handler", "The runtime configuration that runs the containers."),
            Column::AGE,
        ];
        COLUMNS
    }

    fn row(&self, object: &RuntimeClass, now: Timestamp) -> Vec<Value> {
        vec![
            name(&object.metadata),
            object.handler.clone().into(),
            age(&object.metadata, now),
        ]
    }
}
