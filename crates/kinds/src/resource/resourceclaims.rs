//! ResourceClaim: somebody wants devices; when there are some, its status says which.

use super::{claim, status};
use crate::checks::{immutable, reset_metadata_for_status};
use crate::{Kind, STATUS, Subresource, age, name};
use catamaran_api::table::Column;
use catamaran_api::{Errors, Path};
use k8s_openapi::api::resource::v1::{ResourceClaim, ResourceClaimStatus};
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

pub(crate) struct ResourceClaims;

impl Kind for ResourceClaims {
    type Object = ResourceClaim;
    const NAMESPACED: bool = true;
    const SUBRESOURCES: &'static [Subresource] = &[STATUS];

    fn default(&self, object: &mut ResourceClaim) {
        claim::default(&mut object.spec);
        let allocation = object.status.as_mut().and_then(|status| status.allocation.as_mut());
        let devices = allocation.and_then(|allocation| allocation.devices.as_mut());
        for result in devices
            .into_iter()
            .flat_map(|devices| devices.results.iter_mut().flatten())
        {
            claim::default_operators(result.tolerations.as_mut());
        }
    }

    fn prepare_create(&self, object: &mut ResourceClaim) {
        object.status = Some(ResourceClaimStatus::default());
    }

    fn prepare_update(&self, new: &mut ResourceClaim, old: &ResourceClaim) {
        new.status.clone_from(&old.status);
    }

    fn prepare_status(&self, new: &mut ResourceClaim, old: &ResourceClaim) {
        new.spec.clone_from(&old.spec);
        reset_metadata_for_status(&mut new.metadata, &old.metadata);
    }

    fn validate(&self, object: &ResourceClaim, errors: &mut Errors) {
        claim::validate(&object.spec, &Path::new("spec"), errors);
    }

    fn validate_update(&self, new: &ResourceClaim, old: &ResourceClaim, errors: &mut Errors) {
        immutable(&new.spec, &old.spec, &Path::new("spec"), errors);
    }

    fn validate_status(&self, new: &ResourceClaim, old: &ResourceClaim, errors: &mut Errors) {
        status::validate(new, old, errors);
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            Column::NAME,
            Column::string("State", "Whether the claim has its devices, and who uses them."),
            Column::AGE,
        ];
        COLUMNS
    }

    fn row(&self, object: &ResourceClaim, now: Timestamp) -> Vec<Value> {
        vec![name(&object.metadata), state(object).into(), age(&object.metadata, now)]
    }
}

fn state(object: &ResourceClaim) -> String {
    let status = object.status.clone().unwrap_or_default();
    let deleted = object.metadata.deletion_timestamp.is_some();
    let allocated = status.allocation.is_some();
    let reserved = allocated && status.reserved_for.is_some_and(|consumers| !consumers.is_empty());
    let states = [
        ("deleted", deleted),
        ("pending", !allocated && !deleted),
        ("allocated", allocated),
        ("reserved", reserved),
    ];
    let states: Vec<&str> = states
        .iter()
        .filter(|(_, holds)| *holds)
        .map(|(state, _)| *state)
        .collect();
    states.join(",")
}
