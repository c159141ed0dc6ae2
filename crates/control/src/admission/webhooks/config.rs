//! From configuration objects to webhooks that can be called. They are asked in the order of the configurations' names.

use super::super::decoded;
use super::super::expressions::{conditions, webhook_env};
use super::super::matching::Criteria;
use super::Hook;
use crate::watch_cache::Record;
use crate::webhook_client::{ClientConfig, Endpoint};
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhook, MutatingWebhookConfiguration, ValidatingWebhook, ValidatingWebhookConfiguration,
    WebhookClientConfig,
};
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;

const DEFAULT_TIMEOUT_SECONDS: i32 = 10;

pub(super) fn mutating(records: &[Arc<Record>]) -> Vec<Arc<Hook>> {
    hooks(records, |configuration: MutatingWebhookConfiguration| {
        configuration.webhooks
    })
}

pub(super) fn validating(records: &[Arc<Record>]) -> Vec<Arc<Hook>> {
    hooks(records, |configuration: ValidatingWebhookConfiguration| {
        let webhooks = configuration.webhooks?;
        Some(webhooks.into_iter().map(never_reinvoked).collect())
    })
}

fn hooks<C: DeserializeOwned>(
    records: &[Arc<Record>],
    webhooks: impl Fn(C) -> Option<Vec<MutatingWebhook>>,
) -> Vec<Arc<Hook>> {
    let env = webhook_env();
    let mut hooks = Vec::new();
    for record in records {
        let Ok(configuration) = decoded::<C>(record) else {
            continue;
        };
        for webhook in webhooks(configuration).unwrap_or_default() {
            hooks.push(Arc::new(Hook {
                configuration: record.name().to_owned(),
                criteria: Criteria::of_webhook(
                    webhook.rules,
                    webhook.match_policy.as_deref(),
                    webhook.namespace_selector.as_ref(),
                    webhook.object_selector.as_ref(),
                ),
                conditions: conditions(webhook.match_conditions.as_ref(), &env),
                client: client(webhook.client_config),
                timeout: timeout(webhook.timeout_seconds),
                ignores_failures: webhook.failure_policy.as_deref() == Some("Ignore"),
                bears_dry_run: bears_dry_run(&webhook.side_effects),
                reinvocable: webhook.reinvocation_policy.as_deref() == Some("IfNeeded"),
                review_version: review_version(&webhook.admission_review_versions),
                name: webhook.name,
            }));
        }
    }
    hooks
}

/// A validating webhook is a mutating one that is asked once.
fn never_reinvoked(webhook: ValidatingWebhook) -> MutatingWebhook {
    MutatingWebhook {
        admission_review_versions: webhook.admission_review_versions,
        client_config: webhook.client_config,
        failure_policy: webhook.failure_policy,
        match_conditions: webhook.match_conditions,
        match_policy: webhook.match_policy,
        name: webhook.name,
        namespace_selector: webhook.namespace_selector,
        object_selector: webhook.object_selector,
        reinvocation_policy: None,
        rules: webhook.rules,
        side_effects: webhook.side_effects,
        timeout_seconds: webhook.timeout_seconds,
    }
}

fn client(config: WebhookClientConfig) -> ClientConfig {
    let endpoint = match (config.service, config.url) {
        (Some(service), _) => Endpoint::Service {
            namespace: service.namespace,
            name: service.name,
            path: service.path.unwrap_or_default(),
            port: service.port.and_then(|port| u16::try_from(port).ok()).unwrap_or(443),
        },
        (None, url) => Endpoint::Url(url.unwrap_or_default()),
    };
    ClientConfig {
        endpoint,
        ca_bundle: config.ca_bundle.map(|bytes| bytes.0).unwrap_or_default(),
    }
}

fn timeout(seconds: Option<i32>) -> Duration {
    let seconds = seconds.unwrap_or(DEFAULT_TIMEOUT_SECONDS);
    Duration::from_secs(u64::try_from(seconds).unwrap_or(1).max(1))
}

fn bears_dry_run(side_effects: &str) -> bool {
    matches!(side_effects, "None" | "NoneOnDryRun")
}

fn review_version(versions: &[String]) -> &'static str {
    versions
        .iter()
        .find_map(|version| match version.as_str() {
            "v1" => Some("v1"),
            "v1beta1" => Some("v1beta1"),
            _ => None,
        })
        .unwrap_or_default()
}
