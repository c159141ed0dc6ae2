//! The paths below an object that change it in one particular way, or another object for it.

mod binding;
mod eviction;
mod finalize;
mod scale;

use super::{Registry, Target, WriteOptions};
use crate::admission::{Attributes, Operation};
use crate::kinds::Object;
use catamaran_api::Status;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use std::any::Any;

impl Registry {
    /// Asks admission whether a stream to what the target names may be opened.
    pub(crate) async fn admit_connection(&self, target: &Target, options: &WriteOptions) -> Result<(), Status> {
        let attributes = Attributes::new(target, Operation::Connect, None, options);
        self.admission.validate(&self.world(), &attributes, None).await
    }
}

/// Says when new conditions of a signing request were set. (Kinds have no clock.)
pub(super) fn stamp_conditions(object: &mut dyn Object) {
    let any: &mut dyn Any = object;
    let Some(request) = any.downcast_mut::<CertificateSigningRequest>() else {
        return;
    };
    let status = request.status.iter_mut();
    for condition in status.flat_map(|status| status.conditions.iter_mut().flatten()) {
        condition.last_update_time.get_or_insert_with(super::metadata::now);
        condition.last_transition_time.get_or_insert_with(super::metadata::now);
    }
}
