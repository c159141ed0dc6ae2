//! Other people's servers have a say: mutating webhooks one after the other, validating ones all at once.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/>

mod call;
mod config;
mod mutating;
mod review;
mod validating;

pub(super) use mutating::{Memory, MutatingWebhooks};
pub(super) use validating::ValidatingWebhooks;

use super::expressions::{Inputs, all_hold};
use super::matching::Criteria;
use super::views::{request, view};
use super::{Attributes, World};
use crate::kinds::Object;
use crate::metrics::WebhookCall;
use crate::registry::resource::Resource;
use crate::webhook_client::ClientConfig;
use catamaran_api::Status;
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A webhook, ready to be called.
#[derive(Debug)]
struct Hook {
    configuration: String,
    name: String,
    criteria: Criteria,
    conditions: Vec<super::expressions::Expression>,
    client: ClientConfig,
    timeout: Duration,
    ignores_failures: bool,
    /// It changes nothing elsewhere, or not for dry runs.
    bears_dry_run: bool,
    /// Of mutating ones: may be called again when others changed the object after it.
    reinvocable: bool,
    /// `v1`, `v1beta1`: the first one that we speak; empty if there is none.
    review_version: &'static str,
}

impl Hook {
    /// Tells webhooks apart, also those of the same name.
    fn id(&self) -> String {
        format!("{}/{}", self.configuration, self.name)
    }

    /// The version of the resource in which the webhook wants to see the request; `None` if it does not.
    async fn wants(
        &self,
        world: &World<'_>,
        attributes: &Attributes<'_>,
        object: Option<&dyn Object>,
    ) -> Result<Option<Arc<Resource>>, Status> {
        let Some(resource) = self.criteria.find(world, attributes, object)? else {
            return Ok(None);
        };
        if self.conditions.is_empty() {
            return Ok(Some(resource));
        }
        let view = view(world, attributes, object, &resource).await?;
        let request = request(attributes, object, &resource);
        let inputs = Inputs::new(world, attributes, view, request, Value::Null);
        match all_hold(&self.conditions, &inputs.bindings(), self.ignores_failures) {
            Ok(true) => Ok(Some(resource)),
            Ok(false) => Ok(None),
            Err(why) => Err(attributes.forbidden(object, why)),
        }
    }
}

impl Hook {
    /// Counts a call.
    fn measure<T>(
        &self,
        world: &World<'_>,
        attributes: &Attributes<'_>,
        step: &'static str,
        start: Instant,
        outcome: &Result<T, Trouble>,
    ) {
        let metrics = world.registry.admission_metrics();
        let (code, rejection) = match outcome {
            Ok(_) => (200, None),
            Err(Trouble::Denied(status)) => (status.code(), Some("no_error")),
            Err(Trouble::Refused(_)) => (0, Some("apiserver_internal_error")),
            Err(Trouble::Failed { code, .. }) if self.ignores_failures => {
                metrics.webhook_fail_open(&self.name, step);
                (*code, None)
            }
            Err(Trouble::Failed { code, .. }) => (*code, Some("calling_webhook_error")),
        };
        metrics.webhook(&WebhookCall {
            name: &self.name,
            step,
            operation: attributes.operation.as_str(),
            elapsed: start.elapsed(),
            code,
            rejection,
        });
    }
}

/// How a call of a webhook went wrong.
enum Trouble {
    /// It said no.
    Denied(Status),
    /// The request cannot be made; counts whatever the failure policy.
    Refused(Status),
    /// It could not be asked; the code that says so.
    Failed { code: u16, why: String },
}

impl Trouble {
    fn failed(code: u16, why: impl Into<String>) -> Self {
        Trouble::Failed { code, why: why.into() }
    }
}

impl Hook {
    /// The refusal for a call that went wrong; `None` if the webhook's failures are ignored.
    fn refusal(&self, trouble: Trouble) -> Option<Status> {
        match trouble {
            Trouble::Denied(status) | Trouble::Refused(status) => Some(status),
            Trouble::Failed { why, .. } if self.ignores_failures => {
                tracing::warn!(
                    webhook = self.name,
                    configuration = self.configuration,
                    why,
                    "a webhook failed; ignored"
                );
                None
            }
            Trouble::Failed { why, .. } => Some(Status::internal(format!(
                "failed calling webhook {:?}: {why}",
                self.name
            ))),
        }
    }
}
