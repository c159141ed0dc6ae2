//! The paths below an object that change it in one particular way, or another object for it.

mod binding;
mod eviction;
mod finalize;
mod scale;

use super::{Registry, Target, WriteOptions};
use crate::admission::{Attributes, Loose, Operation};
use crate::kinds::Object;
use catamaran_api::Status;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::any::Any;

/// A body that admission let pass, and what it has to say about it.
pub(crate) struct Admitted {
    pub(crate) body: Value,
    pub(crate) warnings: Vec<String>,
}

impl Registry {
    /// Asks admission whether a connection to what the target names may be opened, and with which options.
    pub(crate) async fn admit_connection(
        &self,
        target: &Target,
        connection: Value,
        options: &WriteOptions,
    ) -> Result<Admitted, Status> {
        let attributes = Attributes::new(target, Operation::Connect, None, options);
        let mut object: Box<dyn Object> = Box::new(Loose::new(connection));
        self.admission.mutate(&self.world(), &attributes, &mut object).await?;
        self.admission
            .validate(&self.world(), &attributes, Some(object.as_ref()))
            .await?;
        admitted(object.as_ref(), &attributes)
    }

    /// Lets admission change the body of a subresource that has a kind of its own; it is validated by
    /// [`validate_body`](Self::validate_body) once it is complete.
    pub(crate) async fn mutate_body(
        &self,
        target: &Target,
        body: Value,
        options: &WriteOptions,
    ) -> Result<Admitted, Status> {
        let attributes = Attributes::new(target, Operation::Create, None, options);
        let mut object: Box<dyn Object> = Box::new(Loose::new(body));
        self.admission.mutate(&self.world(), &attributes, &mut object).await?;
        admitted(object.as_ref(), &attributes)
    }

    /// Asks admission about the complete body. Returns warnings.
    pub(crate) async fn validate_body(
        &self,
        target: &Target,
        body: Value,
        options: &WriteOptions,
    ) -> Result<Vec<String>, Status> {
        let attributes = Attributes::new(target, Operation::Create, None, options);
        let object = Loose::new(body);
        self.admission
            .validate(&self.world(), &attributes, Some(&object))
            .await?;
        Ok(attributes.take_warnings())
    }
}

fn admitted(object: &dyn Object, attributes: &Attributes<'_>) -> Result<Admitted, Status> {
    Ok(Admitted {
        body: object.to_value().map_err(Status::internal)?,
        warnings: attributes.take_warnings(),
    })
}

/// The object as its type again, after webhooks, which may have made something looser of it.
fn retyped<T: DeserializeOwned>(object: &dyn Object) -> Result<T, Status> {
    let tree = object.to_value().map_err(Status::internal)?;
    serde_json::from_value(tree).map_err(Status::internal)
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
