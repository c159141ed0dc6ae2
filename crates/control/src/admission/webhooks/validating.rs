//! Webhooks that only look. All that want to see a request are asked at once.

use super::super::derived::Derived;
use super::super::matching::is_exempt;
use super::super::{Attributes, Plugin, World};
use super::{Hook, config};
use crate::kinds::Object;
use async_trait::async_trait;
use catamaran_api::Status;
use std::sync::Arc;
use std::time::Instant;

pub(crate) struct ValidatingWebhooks {
    hooks: Derived<Vec<Arc<Hook>>>,
}

impl Default for ValidatingWebhooks {
    fn default() -> Self {
        ValidatingWebhooks {
            hooks: Derived::new(
                "admissionregistration.k8s.io/v1",
                "validatingwebhookconfigurations",
                config::validating,
            ),
        }
    }
}

#[async_trait]
impl Plugin for ValidatingWebhooks {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        !is_exempt(attributes)
    }

    async fn validate(
        &self,
        world: &World<'_>,
        attributes: &Attributes<'_>,
        object: Option<&dyn Object>,
    ) -> Result<(), Status> {
        let hooks = self.hooks.get(world);
        let mut calls = Vec::new();
        for (index, hook) in hooks.iter().enumerate() {
            if let Some(resource) = hook.wants(world, attributes, object).await? {
                calls.push(async move {
                    let start = Instant::now();
                    let outcome = hook.ask(world, attributes, object, &resource, false).await;
                    hook.measure(world, attributes, "validating", start, &outcome);
                    let refusal = hook.refusal(outcome.err()?);
                    if refusal.is_none() {
                        let key = format!("failed-open.validating.webhook.admission.k8s.io/round_0_index_{index}");
                        attributes.annotate(key, hook.name.clone());
                    }
                    refusal
                });
            }
        }
        match futures::future::join_all(calls).await.into_iter().flatten().next() {
            Some(status) => Err(status),
            None => Ok(()),
        }
    }
}
