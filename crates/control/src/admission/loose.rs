//! An object of which only its metadata is known: bodies of subresources, options of connections.

use crate::kinds::Object;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

/// JSON that passes for an object.
#[derive(Clone)]
pub(crate) struct Loose {
    meta: ObjectMeta,
    tree: Value,
}

impl Loose {
    pub(crate) fn new(tree: Value) -> Self {
        let meta = tree.get("metadata").cloned().unwrap_or_default();
        Loose {
            meta: serde_json::from_value(meta).unwrap_or_default(),
            tree,
        }
    }
}

impl Object for Loose {
    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }

    fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(&self.to_value()?)
    }

    fn to_value(&self) -> Result<Value, serde_json::Error> {
        let mut tree = self.tree.clone();
        if let Some(fields) = tree.as_object_mut().filter(|fields| fields.contains_key("metadata")) {
            fields.insert("metadata".to_owned(), serde_json::to_value(&self.meta)?);
        }
        Ok(tree)
    }

    fn boxed_clone(&self) -> Box<dyn Object> {
        Box::new(self.clone())
    }
}
