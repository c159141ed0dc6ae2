//! ComponentStatus: whether the parts of the control plane are well. Never stored, and on its way out.

use crate::{Kind, name};
use catamaran_api::table::Column;
use k8s_openapi::api::core::v1::ComponentStatus;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

pub(crate) struct ComponentStatuses;

impl Kind for ComponentStatuses {
    type Object = ComponentStatus;
    const NAMESPACED: bool = false;
    const SHORT_NAMES: &'static [&'static str] = &["cs"];
    const DEPRECATION: Option<&'static str> = Some("v1 ComponentStatus is deprecated in v1.19+");

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            Column::NAME,
            Column::string("Status", "Whether the component is well."),
            Column::string("Message", "What the component says."),
            Column::string("Error", "Why it could not be asked."),
        ];
        COLUMNS
    }

    fn row(&self, object: &ComponentStatus, _now: Timestamp) -> Vec<Value> {
        let mut conditions = object.conditions.iter().flatten();
        let healthy = conditions.find(|condition| condition.type_ == "Healthy");
        let status = match healthy {
            None => "Unknown",
            Some(condition) if condition.status == "True" => "Healthy",
            Some(_) => "Unhealthy",
        };
        let text = |text: Option<&String>| Value::from(text.cloned().unwrap_or_default());
        vec![
            name(&object.metadata),
            status.into(),
            text(healthy.and_then(|condition| condition.message.as_ref())),
            text(healthy.and_then(|condition| condition.error.as_ref())),
        ]
    }
}
