//! ConfigMap: data for containers, on its own.

use crate::{Kind, age, data, name};
use catamaran_api::table::Column;
use catamaran_api::{Errors, Path};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

pub(crate) struct ConfigMaps;

impl Kind for ConfigMaps {
    type Object = ConfigMap;
    const NAMESPACED: bool = true;
    const SHORT_NAMES: &'static [&'static str] = &["cm"];

    fn validate(&self, object: &ConfigMap, errors: &mut Errors) {
        let (text, binary) = (Path::new("data"), Path::new("binaryData"));
        let mut total = 0;
        for (key, value) in object.data.iter().flatten() {
            data::validate_key(&text, key, errors);
            if object.binary_data.iter().any(|binary| binary.contains_key(key)) {
                errors.invalid(&text.key(key), key.as_str(), "duplicate of key present in binaryData");
            }
            total += value.len();
        }
        for (key, value) in object.binary_data.iter().flatten() {
            data::validate_key(&binary, key, errors);
            total += value.0.len();
        }
        if total > data::MAX_BYTES {
            errors.too_long(&Path::ROOT, data::MAX_BYTES);
        }
    }

    fn validate_update(&self, new: &ConfigMap, old: &ConfigMap, errors: &mut Errors) {
        if data::stays_immutable(new.immutable, old.immutable, errors) {
            let detail = "field is immutable when `immutable` is set";
            if new.data.clone().unwrap_or_default() != old.data.clone().unwrap_or_default() {
                errors.forbidden(&Path::new("data"), detail);
            }
            if new.binary_data.clone().unwrap_or_default() != old.binary_data.clone().unwrap_or_default() {
                errors.forbidden(&Path::new("binaryData"), detail);
            }
        }
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            Column::NAME,
            Column::string("Data", "Number of keys in data and binaryData."),
            Column::AGE,
        ];
        COLUMNS
    }

    fn row(&self, object: &ConfigMap, now: Timestamp) -> Vec<Value> {
        let keys = object.data.as_ref().map_or(0, std::collections::BTreeMap::len);
        let keys = keys + object.binary_data.as_ref().map_or(0, std::collections::BTreeMap::len);
        vec![name(&object.metadata), keys.into(), age(&object.metadata, now)]
    }
}
