//! What still has to happen before a namespace is gone.

use crate::registry::update::Part;
use crate::registry::{Registry, Target, WriteOptions, Written, body};
use catamaran_api::Status;
use catamaran_api::body::Body;
use k8s_openapi::api::core::v1::Namespace;
use std::any::Any;

impl Registry {
    /// PUT to `namespaces/finalize`: what still has to happen before a namespace is gone.
    pub(crate) async fn finalize(
        &self,
        target: &Target,
        body: Body,
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        let mut warnings = Vec::new();
        let wanted = body::decode(&target.resource, body, options.validation, &mut warnings)?;
        let any: &dyn Any = wanted.as_ref();
        let Some(wanted) = any.downcast_ref::<Namespace>() else {
            return Err(Status::internal("finalize is for a namespace"));
        };
        self.change(target, Part::Finalize, options, &mut |_, old, _| {
            let mut new = old.boxed_clone();
            let any: &mut dyn Any = new.as_mut();
            if let Some(namespace) = any.downcast_mut::<Namespace>() {
                let finalizers = wanted.spec.as_ref().and_then(|spec| spec.finalizers.clone());
                namespace.spec.get_or_insert_default().finalizers = finalizers;
                namespace
                    .metadata
                    .resource_version
                    .clone_from(&wanted.metadata.resource_version);
                namespace.metadata.uid.clone_from(&wanted.metadata.uid);
            }
            Ok(new)
        })
        .await
    }
}
