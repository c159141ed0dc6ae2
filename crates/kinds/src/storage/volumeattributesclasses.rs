//! VolumeAttributesClass: properties of volumes that can change while they are in use.

use super::parameters;
use crate::{Kind, age};
use catamaran_api::table::Column;
use catamaran_api::{Errors, Path};
use k8s_openapi::api::storage::v1::VolumeAttributesClass;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

pub(crate) struct VolumeAttributesClasses;

impl Kind for VolumeAttributesClasses {
    type Object = VolumeAttributesClass;
    const NAMESPACED: bool = false;
    const SHORT_NAMES: &'static [&'static str] = &["vac"];

    fn validate(&self, object: &VolumeAttributesClass, errors: &mut Errors) {
        parameters::validate_driver(&object.driver_name, &Path::new("driverName"), errors);
        parameters::validate(object.parameters.as_ref(), false, &Path::new("parameters"), errors);
    }

    fn validate_update(&self, new: &VolumeAttributesClass, old: &VolumeAttributesClass, errors: &mut Errors) {
        if new.driver_name != old.driver_name {
            errors.forbidden(&Path::new("driverName"), "updates to driverName are forbidden.");
        }
        if parameters::differ(new.parameters.as_ref(), old.parameters.as_ref()) {
            errors.forbidden(&Path::new("parameters"), "updates to parameters are forbidden.");
        }
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            Column::NAME,
            Column::string("DriverName", "The driver that understands the parameters."),
            Column::AGE,
        ];
        COLUMNS
    }

    fn row(&self, object: &VolumeAttributesClass, now: Timestamp) -> Vec<Value> {
        let default = ["storage.alpha.kubernetes.io/is-default-class"];
        vec![
            parameters::name_cell(&object.metadata, &default),
            object.driver_name.clone().into(),
            age(&object.metadata, now),
        ]
    }
}
