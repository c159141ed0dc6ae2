//! What every pod gets: a service account and its pull secrets.

use super::{Attributes, Plugin, World, as_pod};
use crate::kinds::Object;
use async_trait::async_trait;
use catamaran_api::Status;
use k8s_openapi::api::core::v1::{LocalObjectReference, ServiceAccount};

pub(super) struct PodDefaults;

#[async_trait]
impl Plugin for PodDefaults {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.is_create_of("v1", "pods")
    }

    async fn mutate(
        &self,
        world: &World<'_>,
        attributes: &Attributes<'_>,
        object: &mut Box<dyn Object>,
    ) -> Result<(), Status> {
        let Some(spec) = as_pod(object.as_mut()).and_then(|pod| pod.spec.as_mut()) else {
            return Ok(());
        };
        let account = spec.service_account_name.get_or_insert_default();
        if account.is_empty() {
            *account = spec
                .service_account
                .clone()
                .filter(|name| !name.is_empty())
                .unwrap_or("default".to_owned());
        }
        let account = account.clone();
        if spec.image_pull_secrets.as_ref().is_none_or(Vec::is_empty) {
            spec.image_pull_secrets = pull_secrets(world, attributes, &account)?;
        }
        spec.service_account = Some(account);
        Ok(())
    }
}

/// What the pod's service account pulls with.
fn pull_secrets(
    world: &World<'_>,
    attributes: &Attributes<'_>,
    account: &str,
) -> Result<Option<Vec<LocalObjectReference>>, Status> {
    let namespace = attributes.target.namespace.as_deref();
    let Some(record) = world.get("v1", "serviceaccounts", namespace, account) else {
        return Ok(None);
    };
    let account: ServiceAccount = serde_json::from_slice(&record.json()).map_err(Status::internal)?;
    Ok(account.image_pull_secrets.filter(|secrets| !secrets.is_empty()))
}
