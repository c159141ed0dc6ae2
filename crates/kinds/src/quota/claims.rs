//! What a claim on storage is charged, altogether and per storage class.

use super::amounts::{Amounts, of_wire};
use catamaran_api::quantity::Quantity;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;

const NAMES: &[&str] = &["persistentvolumeclaims", "requests.storage"];
/// Between the name of a storage class and one of [`NAMES`].
const OF_CLASS: &str = ".storageclass.storage.k8s.io/";
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

pub(super) fn counts(name: &str) -> bool {
    NAMES.contains(&name)
        || name
            .rsplit_once(OF_CLASS)
            .is_some_and(|(_, rest)| NAMES.contains(&rest))
}

pub(super) fn usage(claim: &PersistentVolumeClaim) -> Amounts {
    let mut usage = Amounts::from([("persistentvolumeclaims".to_owned(), Quantity::from_units(1))]);
    if let Some(storage) = storage(claim) {
        usage.insert("requests.storage".to_owned(), storage);
    }
    let class = class(claim);
    if !class.is_empty() {
        let of_class: Vec<(String, Quantity)> = usage
            .iter()
            .map(|(name, quantity)| (format!("{class}{OF_CLASS}{name}"), *quantity))
            .collect();
        usage.extend(of_class);
    }
    usage
}

fn class(claim: &PersistentVolumeClaim) -> &str {
    let annotated = claim
        .metadata
        .annotations
        .as_ref()
        .and_then(|own| own.get(CLASS_ANNOTATION));
    match annotated {
        Some(class) => class,
        None => claim
            .spec
            .as_ref()
            .and_then(|spec| spec.storage_class_name.as_deref())
            .unwrap_or_default(),
    }
}

/// Whole bytes: what is asked for, or what an expansion that is under way has been promised.
fn storage(claim: &PersistentVolumeClaim) -> Option<Quantity> {
    let requests = claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref();
    let asked = *of_wire(requests).get("storage")?;
    let allocated = claim
        .status
        .as_ref()
        .and_then(|status| status.allocated_resources.as_ref());
    let storage = match of_wire(allocated).get("storage") {
        Some(allocated) if *allocated > asked => *allocated,
        _ => asked,
    };
    Some(if storage.is_integer() {
        storage
    } else {
        Quantity::from_units(storage.units())
    })
}
