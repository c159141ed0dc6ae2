//! Claims and volumes: the class of claims that name none, protection of what is in use, and which claims may grow.

use super::derived::Derived;
use super::{Attributes, Operation, Plugin, World, decoded, typed, typed_mut};
use crate::kinds::Object;
use crate::kinds::quota::of_wire;
use crate::watch_cache::Record;
use async_trait::async_trait;
use catamaran_api::Status;
use catamaran_api::quantity::Quantity;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::sync::Arc;

const STORAGE: &str = "storage.k8s.io/v1";
const CLASSES: &str = "storageclasses";
const CLAIMS: &str = "persistentvolumeclaims";
const VOLUMES: &str = "persistentvolumes";
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";
/// Either marks a storage class as the default.
const DEFAULT_ANNOTATIONS: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];

/// Of the objects that carry a mark, the youngest; of several as young, the first by name.
pub(super) fn youngest_marked<'a>(metas: impl Iterator<Item = &'a ObjectMeta>, marks: &[&str]) -> Option<String> {
    let marked = |meta: &&ObjectMeta| {
        let annotations = meta.annotations.as_ref();
        marks.iter().any(|mark| {
            annotations
                .and_then(|own| own.get(*mark))
                .is_some_and(|value| value == "true")
        })
    };
    let created = |meta: &ObjectMeta| meta.creation_timestamp.as_ref().map(|time| time.0);
    metas
        .filter(marked)
        .max_by(|a, b| created(a).cmp(&created(b)).then_with(|| b.name.cmp(&a.name)))
        .and_then(|meta| meta.name.clone())
}

pub(super) struct DefaultStorageClass {
    class: Derived<Option<String>>,
}

impl Default for DefaultStorageClass {
    fn default() -> Self {
        DefaultStorageClass {
            class: Derived::new(STORAGE, CLASSES, default_class),
        }
    }
}

fn default_class(records: &[Arc<Record>]) -> Option<String> {
    let classes: Vec<StorageClass> = records.iter().filter_map(|record| decoded(record).ok()).collect();
    youngest_marked(classes.iter().map(|class| &class.metadata), &DEFAULT_ANNOTATIONS)
}

#[async_trait]
impl Plugin for DefaultStorageClass {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.is_create_of("v1", CLAIMS)
    }

    async fn mutate(&self, world: &World<'_>, _: &Attributes<'_>, object: &mut Box<dyn Object>) -> Result<(), Status> {
        let Some(claim) = typed_mut::<PersistentVolumeClaim>(object.as_mut()) else {
            return Ok(());
        };
        if named_class(claim).is_none()
            && let Some(class) = &*self.class.get(world)
        {
            claim.spec.get_or_insert_default().storage_class_name = Some(class.clone());
        }
        Ok(())
    }
}

/// The class that a claim names, which may be the empty one.
fn named_class(claim: &PersistentVolumeClaim) -> Option<&str> {
    let annotated = claim
        .metadata
        .annotations
        .as_ref()
        .and_then(|own| own.get(CLASS_ANNOTATION));
    let field = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_ref());
    annotated.or(field).map(String::as_str)
}

/// Claims and volumes are not deleted under those who use them: a controller takes these finalizers away.
pub(super) struct ObjectInUseProtection;

#[async_trait]
impl Plugin for ObjectInUseProtection {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.is_create_of("v1", CLAIMS) || attributes.is_create_of("v1", VOLUMES)
    }

    async fn mutate(
        &self,
        _: &World<'_>,
        attributes: &Attributes<'_>,
        object: &mut Box<dyn Object>,
    ) -> Result<(), Status> {
        let finalizer = if attributes.is_for("v1", CLAIMS) {
            "kubernetes.io/pvc-protection"
        } else {
            "kubernetes.io/pv-protection"
        };
        let finalizers = object.meta_mut().finalizers.get_or_insert_default();
        if !finalizers.iter().any(|own| own == finalizer) {
            finalizers.push(finalizer.to_owned());
        }
        Ok(())
    }
}

/// A claim may grow only if it is bound and its class allows it.
pub(super) struct ClaimResize;

#[async_trait]
impl Plugin for ClaimResize {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Update && attributes.is_for("v1", CLAIMS)
    }

    async fn validate(
        &self,
        world: &World<'_>,
        attributes: &Attributes<'_>,
        object: Option<&dyn Object>,
    ) -> Result<(), Status> {
        let claims = (
            object.and_then(typed::<PersistentVolumeClaim>),
            attributes.old.and_then(typed::<PersistentVolumeClaim>),
        );
        let (Some(new), Some(old)) = claims else { return Ok(()) };
        if size(new) <= size(old) {
            return Ok(());
        }
        if old.status.as_ref().and_then(|status| status.phase.as_deref()) != Some("Bound") {
            return Err(attributes.forbidden(object, "Only bound persistent volume claims can be expanded"));
        }
        let class = named_class(new).filter(|class| !class.is_empty() && Some(*class) == named_class(old));
        let record = class.and_then(|class| world.get(STORAGE, CLASSES, None, class));
        let expandable = match record {
            Some(record) => decoded::<StorageClass>(&record)?.allow_volume_expansion == Some(true),
            None => false,
        };
        if expandable {
            return Ok(());
        }
        let why = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support \
                   resize";
        Err(attributes.forbidden(object, why))
    }
}

fn size(claim: &PersistentVolumeClaim) -> Quantity {
    let resources = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref());
    let requests = of_wire(resources.and_then(|resources| resources.requests.as_ref()));
    requests.get("storage").copied().unwrap_or_default()
}
