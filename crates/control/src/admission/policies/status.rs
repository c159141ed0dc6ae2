//! Keeps the status of policies: what the check of their types found, and for which generation.

use super::super::decoded;
use super::API_VERSION;
use super::types::warnings;
use crate::registry::Registry;
use catamaran_api::Status;
use k8s_openapi::api::admissionregistration::v1::{TypeChecking, ValidatingAdmissionPolicy};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

const PLURAL: &str = "validatingadmissionpolicies";

/// Runs until the server stops. Another server that does the same comes to the same result.
pub(crate) async fn keep(registry: Arc<Registry>, shutdown: CancellationToken) {
    let Some(cache) = registry.peek_cache(API_VERSION, PLURAL) else {
        return;
    };
    let mut changes = cache.subscribe();
    loop {
        changes.mark_unchanged();
        if let Err(status) = check_all(&registry).await {
            tracing::warn!(error = status.message(), "the types of a policy could not be checked");
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = changes.changed() => if changed.is_err() { return },
        }
    }
}

async fn check_all(registry: &Registry) -> Result<(), Status> {
    for record in registry.peek_all(API_VERSION, PLURAL, None) {
        let mut policy: ValidatingAdmissionPolicy = decoded(&record)?;
        let status = policy.status.get_or_insert_default();
        if status.observed_generation == policy.metadata.generation {
            continue;
        }
        status.observed_generation = policy.metadata.generation;
        let found = policy.spec.as_ref().map(|spec| warnings(spec, &registry.table()));
        status.type_checking = Some(TypeChecking {
            expression_warnings: found.filter(|found| !found.is_empty()),
        });
        // If somebody else wrote it meanwhile, that wakes us up again.
        registry
            .replace_if_current(API_VERSION, PLURAL, &record, Box::new(policy))
            .await?;
    }
    Ok(())
}
