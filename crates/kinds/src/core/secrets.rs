//! Secret: a ConfigMap for what must not be shown.

use crate::{FieldLabel, Kind, age, data, name};
use catamaran_api::table::Column;
use catamaran_api::{Errors, Path};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

pub(crate) struct Secrets;

impl Kind for Secrets {
    type Object = Secret;
    const NAMESPACED: bool = true;
    const FIELD_SELECTORS: &'static [FieldLabel] = &[FieldLabel::new("type")];

    /// `stringData` is a way to write only: it lands in `data`, where it wins.
    fn default(&self, object: &mut Secret) {
        if let Some(plain) = object.string_data.take() {
            let data = object.data.get_or_insert_default();
            data.extend(
                plain
                    .into_iter()
                    .map(|(key, text)| (key, ByteString(text.into_bytes()))),
            );
        }
        object.type_.get_or_insert_with(|| "Opaque".to_owned());
    }

    fn validate(&self, object: &Secret, errors: &mut Errors) {
        let path = Path::new("data");
        let mut total = 0;
        for (key, value) in object.data.iter().flatten() {
            data::validate_key(&path, key, errors);
            total += value.0.len();
        }
        if total > data::MAX_BYTES {
            errors.too_long(&path, data::MAX_BYTES);
        }
        validate_type(object, &path, errors);
    }

    fn validate_update(&self, new: &Secret, old: &Secret, errors: &mut Errors) {
        if new.type_ != old.type_ {
            errors.invalid(
                &Path::new("type"),
                new.type_.clone().unwrap_or_default(),
                "field is immutable",
            );
        }
        if data::stays_immutable(new.immutable, old.immutable, errors)
            && new.data.clone().unwrap_or_default() != old.data.clone().unwrap_or_default()
        {
            errors.forbidden(&Path::new("data"), "field is immutable when `immutable` is set");
        }
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            Column::NAME,
            Column::string("Type", "Says what the data is for, and which keys it must have."),
            Column::string("Data", "Number of keys in data."),
            Column::AGE,
        ];
        COLUMNS
    }

    fn row(&self, object: &Secret, now: Timestamp) -> Vec<Value> {
        let keys = object.data.as_ref().map_or(0, std::collections::BTreeMap::len);
        let kind = object.type_.clone().unwrap_or_default();
        vec![
            name(&object.metadata),
            kind.into(),
            keys.into(),
            age(&object.metadata, now),
        ]
    }
}

const SERVICE_ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";

/// The keys that a type promises.
fn validate_type(object: &Secret, path: &Path<'_>, errors: &mut Errors) {
    let value = |key: &str| object.data.as_ref().and_then(|data| data.get(key));
    let mut must_have = |key: &str| {
        if value(key).is_none() {
            errors.required(&path.key(key), "");
        }
    };
    match object.type_.as_deref().unwrap_or_default() {
        "kubernetes.io/service-account-token" => {
            let annotations = object.metadata.annotations.as_ref();
            if annotations
                .and_then(|all| all.get(SERVICE_ACCOUNT_NAME))
                .is_none_or(String::is_empty)
            {
                errors.required(
                    &Path::new("metadata").child("annotations").key(SERVICE_ACCOUNT_NAME),
                    "",
                );
            }
        }
        "kubernetes.io/dockercfg" => match value(".dockercfg") {
            None => errors.required(&path.key(".dockercfg"), ""),
            Some(config) => validate_json(&config.0, &path.key(".dockercfg"), errors),
        },
        "kubernetes.io/dockerconfigjson" => match value(".dockerconfigjson") {
            None => errors.required(&path.key(".dockerconfigjson"), ""),
            Some(config) => validate_json(&config.0, &path.key(".dockerconfigjson"), errors),
        },
        "kubernetes.io/basic-auth" if value("username").is_none() && value("password").is_none() => {
            errors.required(&path.key("username"), "");
            errors.required(&path.key("password"), "");
        }
        "kubernetes.io/ssh-auth" if value("ssh-privatekey").is_none_or(|key| key.0.is_empty()) => {
            errors.required(&path.key("ssh-privatekey"), "");
        }
        "kubernetes.io/tls" => {
            must_have("tls.crt");
            must_have("tls.key");
        }
        _ => {}
    }
}

fn validate_json(bytes: &[u8], path: &Path<'_>, errors: &mut Errors) {
    if let Err(error) = serde_json::from_slice::<serde_json::Map<String, Value>>(bytes) {
        errors.invalid(path, "<secret contents redacted>", error.to_string());
    }
}
