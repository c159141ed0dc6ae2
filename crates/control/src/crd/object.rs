//! An object of a defined kind: typed metadata, the rest as it is.

use crate::kinds::Object;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::Error as _;
use serde_json::{Map, Value};

/// An object whose fields are known to its definition only.
#[derive(Clone, Debug)]
pub(super) struct Custom {
    api_version: String,
    kind: String,
    metadata: ObjectMeta,
    /// Everything else.
    pub(super) fields: Map<String, Value>,
}

impl Custom {
    /// `api_version` and `kind` take the place of whatever the object says.
    pub(super) fn new(value: Value, api_version: &str, kind: &str) -> Result<Self, serde_json::Error> {
        let Value::Object(mut fields) = value else {
            return Err(serde_json::Error::custom("the object is not a map"));
        };
        let metadata = match fields.remove("metadata") {
            None | Some(Value::Null) => ObjectMeta::default(),
            Some(metadata) => serde_json::from_value(metadata)?,
        };
        fields.remove("apiVersion");
        fields.remove("kind");
        Ok(Custom {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            metadata,
            fields,
        })
    }

    /// As one document.
    pub(super) fn document(&self) -> Value {
        let mut document = self.fields.clone();
        document.insert("apiVersion".to_owned(), Value::from(self.api_version.as_str()));
        document.insert("kind".to_owned(), Value::from(self.kind.as_str()));
        let metadata = serde_json::to_value(&self.metadata).unwrap_or_default();
        document.insert("metadata".to_owned(), metadata);
        Value::Object(document)
    }

    /// Takes the fields of a document that is not to have other metadata.
    pub(super) fn set_fields(&mut self, document: Value) {
        if let Value::Object(mut fields) = document {
            for name in ["apiVersion", "kind", "metadata"] {
                fields.remove(name);
            }
            self.fields = fields;
        }
    }

    pub(super) fn metadata_from(&mut self, other: &Custom) {
        self.metadata = other.metadata.clone();
    }
}

impl Object for Custom {
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }

    fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut json = Vec::with_capacity(512);
        let mut part = |key: &str, write: &dyn Fn(&mut Vec<u8>) -> Result<(), serde_json::Error>| {
            json.push(if json.is_empty() { b'{' } else { b',' });
            serde_json::to_writer(&mut json, key)?;
            json.push(b':');
            write(&mut json)
        };
        part("apiVersion", &|json| {
            catamaran_api::json::to_writer(json, &self.api_version)
        })?;
        part("kind", &|json| catamaran_api::json::to_writer(json, &self.kind))?;
        part("metadata", &|json| catamaran_api::json::to_writer(json, &self.metadata))?;
        for (name, value) in &self.fields {
            part(name, &|json| catamaran_api::json::to_writer(json, value))?;
        }
        json.push(b'}');
        Ok(json)
    }

    fn to_value(&self) -> Result<Value, serde_json::Error> {
        Ok(self.document())
    }

    fn boxed_clone(&self) -> Box<dyn Object> {
        Box::new(self.clone())
    }
}
