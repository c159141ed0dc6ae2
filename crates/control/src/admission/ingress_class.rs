//! The class of ingresses that name none.

use super::derived::Derived;
use super::storage::youngest_marked;
use super::{Attributes, Plugin, World, decoded, typed_mut};
use crate::kinds::Object;
use crate::watch_cache::Record;
use async_trait::async_trait;
use catamaran_api::Status;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use std::sync::Arc;

const API_VERSION: &str = "networking.k8s.io/v1";
const DEFAULT_ANNOTATION: &str = "ingressclass.kubernetes.io/is-default-class";
/// How ingresses named their class before there was a field.
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

pub(super) struct DefaultIngressClass {
    class: Derived<Option<String>>,
}

impl Default for DefaultIngressClass {
    fn default() -> Self {
        DefaultIngressClass {
            class: Derived::new(API_VERSION, "ingressclasses", default_class),
        }
    }
}

fn default_class(records: &[Arc<Record>]) -> Option<String> {
    let classes: Vec<IngressClass> = records.iter().filter_map(|record| decoded(record).ok()).collect();
    youngest_marked(classes.iter().map(|class| &class.metadata), &[DEFAULT_ANNOTATION])
}

#[async_trait]
impl Plugin for DefaultIngressClass {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.is_create_of(API_VERSION, "ingresses")
    }

    async fn mutate(&self, world: &World<'_>, _: &Attributes<'_>, object: &mut Box<dyn Object>) -> Result<(), Status> {
        let Some(ingress) = typed_mut::<Ingress>(object.as_mut()) else {
            return Ok(());
        };
        let annotations = ingress.metadata.annotations.as_ref();
        if annotations.is_some_and(|own| own.contains_key(CLASS_ANNOTATION)) {
            return Ok(());
        }
        let spec = ingress.spec.get_or_insert_default();
        if spec.ingress_class_name.is_none() {
            spec.ingress_class_name.clone_from(&self.class.get(world));
        }
        Ok(())
    }
}
