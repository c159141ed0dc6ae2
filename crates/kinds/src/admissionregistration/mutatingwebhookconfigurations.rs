//! MutatingWebhookConfiguration: webhooks that may change objects.

use super::webhook::{self, Hook};
use crate::{Kind, age, differs, name};
use catamaran_api::Errors;
use catamaran_api::table::Column;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

pub(crate) struct MutatingWebhookConfigurations;

impl Kind for MutatingWebhookConfigurations {
    type Object = MutatingWebhookConfiguration;
    const NAMESPACED: bool = false;
    const UNCONDITIONAL_UPDATE: bool = false;
    const CATEGORIES: &'static [&'static str] = &["api-extensions"];

    fn default(&self, object: &mut MutatingWebhookConfiguration) {
        for hook in object.webhooks.iter_mut().flatten() {
            webhook::default(
                &mut hook.failure_policy,
                &mut hook.match_policy,
                [&mut hook.namespace_selector, &mut hook.object_selector],
                &mut hook.timeout_seconds,
                hook.rules.as_mut(),
                &mut hook.client_config,
            );
            hook.reinvocation_policy.get_or_insert_with(|| "Never".to_owned());
        }
    }

    fn spec_changed(&self, new: &MutatingWebhookConfiguration, old: &MutatingWebhookConfiguration) -> Option<bool> {
        differs(&new.webhooks, &old.webhooks)
    }

    fn validate(&self, object: &MutatingWebhookConfiguration, errors: &mut Errors) {
        webhook::validate_all(object.webhooks.iter().flatten().map(Hook::from), errors);
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            Column::NAME,
            Column::integer("Webhooks", "How many webhooks there are."),
            Column::AGE,
        ];
        COLUMNS
    }

    fn row(&self, object: &MutatingWebhookConfiguration, now: Timestamp) -> Vec<Value> {
        vec![
            name(&object.metadata),
            object.webhooks.as_ref().map_or(0, Vec::len).into(),
            age(&object.metadata, now),
        ]
    }
}
