//! From the objects in the cluster to the rules in use, and back to the objects: whoever reads a schema learns whether the
//! level it names is there.

use super::rules::{FlowSchema, PriorityLevelConfiguration};
use super::{Flow, suggested};
use crate::registry::Registry;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const GROUP: &str = "flowcontrol.apiserver.k8s.io/v1";
/// Pause before what failed is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// The caches of both kinds.
pub(crate) struct Following {
    registry: Arc<Registry>,
    flow: Arc<Flow>,
    schemas: watch::Receiver<u64>,
    levels: watch::Receiver<u64>,
}

impl Following {
    /// `None` if the kinds are not served.
    pub(crate) fn new(registry: &Arc<Registry>, flow: &Arc<Flow>) -> Option<Following> {
        Some(Following {
            schemas: registry.changes_of(GROUP, "flowschemas")?,
            levels: registry.changes_of(GROUP, "prioritylevelconfigurations")?,
            registry: Arc::clone(registry),
            flow: Arc::clone(flow),
        })
    }

    /// Applies every change, until `shutdown`.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        loop {
            self.schemas.mark_unchanged();
            self.levels.mark_unchanged();
            self.apply();
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = self.schemas.changed() => if changed.is_err() { return },
                changed = self.levels.changed() => if changed.is_err() { return },
            }
        }
    }

    /// As long as the objects that have to be there are not, what was in use stays.
    fn apply(&self) {
        let schemas: Vec<FlowSchema> = self.registry.read_all(GROUP, "flowschemas");
        let levels: Vec<PriorityLevelConfiguration> = self.registry.read_all(GROUP, "prioritylevelconfigurations");
        let named = |name: &str| levels.iter().any(|level| level.metadata.name.as_deref() == Some(name));
        if !schemas.is_empty() && named("exempt") && named("catch-all") {
            self.flow.configure(&schemas, &levels);
        }
    }
}

/// Keeps the objects every cluster has, and the conditions of all schemas, until `shutdown`. Only a change can put them out
/// of order, and every change is seen: nothing is looked at while nothing changes.
pub(crate) async fn keep(client: Client, registry: Arc<Registry>, shutdown: CancellationToken) {
    let (Some(mut schemas), Some(mut levels)) = (
        registry.changes_of(GROUP, "flowschemas"),
        registry.changes_of(GROUP, "prioritylevelconfigurations"),
    ) else {
        return;
    };
    loop {
        schemas.mark_unchanged();
        levels.mark_unchanged();
        let kept = async {
            suggested::ensure(&client).await?;
            conditions(&client, &registry).await
        };
        let outcome = kept.await;
        if let Err(error) = &outcome {
            tracing::warn!(error = error as &dyn std::error::Error, "cannot keep the flow schemas");
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(RETRY), if outcome.is_err() => {}
            changed = schemas.changed() => if changed.is_err() { return },
            changed = levels.changed() => if changed.is_err() { return },
        }
    }
}

async fn conditions(client: &Client, registry: &Registry) -> kube::Result<()> {
    let levels: Vec<PriorityLevelConfiguration> = registry.read_all(GROUP, "prioritylevelconfigurations");
    let schemas: Vec<FlowSchema> = registry.read_all(GROUP, "flowschemas");
    let api: Api<FlowSchema> = Api::all(client.clone());
    for schema in schemas {
        let (Some(name), Some(spec)) = (&schema.metadata.name, &schema.spec) else {
            continue;
        };
        let level = spec.priority_level_configuration.name.clone();
        let found = levels.iter().any(|own| own.metadata.name.as_deref() == Some(&level));
        let (status, reason, ending) = match found {
            true => ("False", "Found", "and it exists"),
            false => ("True", "NotFound", "but there is no such object"),
        };
        let message =
            format!("This FlowSchema references the PriorityLevelConfiguration object named {level:?} {ending}");
        let conditions = schema.status.as_ref().and_then(|status| status.conditions.as_ref());
        let present = conditions.and_then(|all| all.iter().find(|own| own.type_.as_deref() == Some("Dangling")));
        let same = present.is_some_and(|own| {
            own.status.as_deref() == Some(status)
                && own.reason.as_deref() == Some(reason)
                && own.message.as_deref() == Some(&message)
        });
        if same {
            continue;
        }
        let now = k8s_openapi::jiff::Timestamp::now()
            .strftime("%Y-%m-%dT%H:%M:%SZ")
            .to_string();
        let condition = json!({
            "type": "Dangling", "status": status, "reason": reason, "message": message, "lastTransitionTime": now,
        });
        // Conditions are told apart by their type, so that only this one changes.
        let patch = json!({ "status": { "conditions": [condition] } });
        match api
            .patch_status(name, &PatchParams::default(), &Patch::Strategic(&patch))
            .await
        {
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            Err(error) => return Err(error),
            Ok(_) => {}
        }
    }
    Ok(())
}
