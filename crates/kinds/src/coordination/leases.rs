//! Lease: a heartbeat, or a lock with a time limit.

use crate::{Kind, age, name};
use catamaran_api::table::Column;
use catamaran_api::{Errors, Path};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

pub(crate) struct Leases;

impl Kind for Leases {
    type Object = Lease;
    const NAMESPACED: bool = true;
    const UNCONDITIONAL_UPDATE: bool = false;
    const CREATE_ON_UPDATE: bool = true;

    fn validate(&self, object: &Lease, errors: &mut Errors) {
        let Some(spec) = &object.spec else { return };
        let path = Path::new("spec");
        if let Some(seconds) = spec.lease_duration_seconds.filter(|seconds| *seconds <= 0) {
            errors.invalid(&path.child("leaseDurationSeconds"), seconds, "must be greater than 0");
        }
        if let Some(transitions) = spec.lease_transitions.filter(|transitions| *transitions < 0) {
            errors.invalid(
                &path.child("leaseTransitions"),
                transitions,
                "must be greater than or equal to 0",
            );
        }
        if spec.strategy.as_deref().unwrap_or_default().is_empty()
            && spec
                .preferred_holder
                .as_deref()
                .is_some_and(|holder| !holder.is_empty())
        {
            let detail = "may only be specified if `strategy` is defined";
            errors.forbidden(&path.child("preferredHolder"), detail);
        }
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            Column::NAME,
            Column::string("Holder", "Who holds the lease."),
            Column::AGE,
        ];
        COLUMNS
    }

    fn row(&self, object: &Lease, now: Timestamp) -> Vec<Value> {
        let holder = object.spec.as_ref().and_then(|spec| spec.holder_identity.clone());
        vec![
            name(&object.metadata),
            holder.unwrap_or_default().into(),
            age(&object.metadata, now),
        ]
    }
}
