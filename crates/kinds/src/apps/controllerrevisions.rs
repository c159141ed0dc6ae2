//! ControllerRevision: an old template of a stateful or daemon set, kept to go back to. Its content never changes.

use crate::{Kind, age, name, rules};
use catamaran_api::table::Column;
use catamaran_api::{Errors, Path};
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

pub(crate) struct ControllerRevisions;

impl Kind for ControllerRevisions {
    type Object = ControllerRevision;
    const NAMESPACED: bool = true;

    fn validate(&self, object: &ControllerRevision, errors: &mut Errors) {
        if object.data.as_ref().is_none_or(|data| data.0.is_null()) {
            errors.required(&Path::new("data"), "data is mandatory");
        }
        rules::nonnegative(object.revision, &Path::new("revision"), errors);
    }

    fn validate_update(&self, new: &ControllerRevision, old: &ControllerRevision, errors: &mut Errors) {
        rules::immutable(&new.data, &old.data, &Path::new("data"), errors);
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            Column::NAME,
            Column::string("Controller", "What it is a revision of."),
            Column::string("Revision", "Its number; the highest is the present one."),
            Column::AGE,
        ];
        COLUMNS
    }

    fn row(&self, object: &ControllerRevision, now: Timestamp) -> Vec<Value> {
        let mut owners = object.metadata.owner_references.iter().flatten();
        let controller = owners.find(|owner| owner.controller == Some(true)).map(|owner| {
            let kind = owner.kind.to_lowercase();
            match owner.api_version.split_once('/') {
                Some((group, _)) => format!("{kind}.{group}/{}", owner.name),
                None => format!("{kind}/{}", owner.name),
            }
        });
        vec![
            name(&object.metadata),
            controller.unwrap_or_else(|| "<none>".to_owned()).into(),
            object.revision.into(),
            age(&object.metadata, now),
        ]
    }
}
