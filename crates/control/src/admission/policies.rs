//! Policies of the cluster's own, as expressions: what has to hold, for which requests, and what happens if it does not.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/>

mod check;
mod compiled;
mod decide;
mod params;
mod status;
mod types;

pub(super) use check::Expressions;
pub(crate) use status::keep as keep_status;

use super::derived::Derived;
use super::expressions::Inputs;
use super::matching::is_exempt;
use super::views::{request, view};
use super::{Attributes, Plugin, World};
use crate::kinds::Object;
use crate::registry::tree;
use async_trait::async_trait;
use catamaran_api::Status;
use compiled::{Binding, Policy};
use decide::{Outcome, Verdict};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::StatusCause;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

const API_VERSION: &str = "admissionregistration.k8s.io/v1";
/// Longer values of audit annotations are cut.
const LONGEST_ANNOTATION: usize = 10 * 1024;

pub(super) struct ValidatingPolicies {
    policies: Derived<Vec<Arc<Policy>>>,
    /// By the name of their policy.
    bindings: Derived<BTreeMap<String, Vec<Arc<Binding>>>>,
}

impl Default for ValidatingPolicies {
    fn default() -> Self {
        ValidatingPolicies {
            policies: Derived::new(API_VERSION, "validatingadmissionpolicies", compiled::policies),
            bindings: Derived::new(API_VERSION, "validatingadmissionpolicybindings", compiled::bindings),
        }
    }
}

/// A refusal, and whose it is.
struct Denial {
    policy: String,
    binding: Option<String>,
    reason: Option<String>,
    message: String,
}

#[async_trait]
impl Plugin for ValidatingPolicies {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        !is_exempt(attributes)
    }

    async fn validate(
        &self,
        world: &World<'_>,
        attributes: &Attributes<'_>,
        object: Option<&dyn Object>,
    ) -> Result<(), Status> {
        let policies = self.policies.get(world);
        if policies.is_empty() {
            return Ok(());
        }
        let bindings = self.bindings.get(world);
        let mut denials = Vec::new();
        for policy in policies.iter() {
            let Some(bindings) = bindings.get(&policy.name) else {
                continue;
            };
            apply(world, attributes, object, policy, bindings, &mut denials).await?;
        }
        match denials.into_iter().next() {
            Some(denial) => Err(denial.into_status(attributes, object)),
            None => Ok(()),
        }
    }
}

/// Applies a policy with each of its bindings.
async fn apply(
    world: &World<'_>,
    attributes: &Attributes<'_>,
    object: Option<&dyn Object>,
    policy: &Policy,
    bindings: &[Arc<Binding>],
    denials: &mut Vec<Denial>,
) -> Result<(), Status> {
    let mut misconfigured = |binding: Option<&Binding>, why: &str| {
        if !policy.ignores_failures {
            let what = if binding.is_some() { "binding" } else { "policy" };
            denials.push(Denial {
                policy: policy.name.clone(),
                binding: binding.map(|binding| binding.name.clone()),
                reason: None,
                message: format!("failed to configure {what}: {why}"),
            });
        }
    };
    let resource = match policy.criteria.find(world, attributes, object) {
        Ok(Some(resource)) => resource,
        Ok(None) => return Ok(()),
        Err(status) => {
            misconfigured(None, status.message());
            return Ok(());
        }
    };
    let mut found = Vec::new();
    for binding in bindings {
        match binding.criteria.find(world, attributes, object) {
            Ok(None) => {}
            Err(status) => misconfigured(Some(binding), status.message()),
            Ok(Some(_)) => match params::collect(world, attributes, policy, binding).await {
                Ok(params) => found.push((binding, params)),
                Err(why) => misconfigured(Some(binding), &why),
            },
        }
    }
    if found.iter().all(|(_, params)| params.is_empty()) {
        return Ok(());
    }
    let view = view(world, attributes, object, &resource).await?;
    let request = request(attributes, object, &resource);
    let namespace = namespace(world, attributes)?;
    let inputs = Inputs::new(world, attributes, view, request, namespace);
    let mut annotations: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (binding, params) in found {
        for params in &params {
            let start = Instant::now();
            let outcome = decide::decide(policy, &inputs, params);
            measure(world, policy, binding, &outcome, start.elapsed());
            judge(attributes, policy, binding, outcome, denials, &mut annotations);
        }
    }
    for (key, values) in annotations {
        attributes.annotate(format!("{}/{key}", policy.name), values.join(", "));
    }
    Ok(())
}

/// Counts what a policy objects to, by what comes of it.
fn measure(world: &World<'_>, policy: &Policy, binding: &Binding, outcome: &Outcome, elapsed: Duration) {
    let metrics = world.registry.admission_metrics();
    // All expressions were timed together.
    let each = elapsed / u32::try_from(outcome.verdicts.len().max(1)).unwrap_or(u32::MAX);
    for verdict in &outcome.verdicts {
        let Verdict::Denied { reason, .. } = verdict else {
            continue;
        };
        let error = if reason.is_some() { "no_error" } else { "invalid_error" };
        for action in &binding.actions {
            let action = match action.as_str() {
                "Deny" => "deny",
                "Warn" => "warn",
                _ => "audit",
            };
            metrics.check(&policy.name, &binding.name, error, action, each);
        }
    }
}

/// What the binding makes of the policy's decisions.
fn judge(
    attributes: &Attributes<'_>,
    policy: &Policy,
    binding: &Binding,
    outcome: Outcome,
    denials: &mut Vec<Denial>,
    annotations: &mut BTreeMap<String, Vec<String>>,
) {
    for (index, verdict) in outcome.verdicts.into_iter().enumerate() {
        let Verdict::Denied { reason, message } = verdict else {
            continue;
        };
        for action in &binding.actions {
            match action.as_str() {
                "Deny" => denials.push(Denial {
                    policy: policy.name.clone(),
                    binding: Some(binding.name.clone()),
                    reason: reason.clone(),
                    message: message.clone(),
                }),
                "Warn" => attributes.warn(format!(
                    "Validation failed for ValidatingAdmissionPolicy '{}' with binding '{}': {message}",
                    policy.name, binding.name
                )),
                "Audit" => {
                    let failure = json!([{
                        "message": message,
                        "policy": policy.name,
                        "binding": binding.name,
                        "expressionIndex": index,
                        "validationActions": binding.actions,
                    }]);
                    attributes.annotate(
                        "validation.policy.admission.k8s.io/validation_failure",
                        failure.to_string(),
                    );
                }
                _ => {}
            }
        }
    }
    for (key, mut value) in outcome.annotations {
        let end = (0..=LONGEST_ANNOTATION.min(value.len()))
            .rev()
            .find(|end| value.is_char_boundary(*end));
        value.truncate(end.unwrap_or_default());
        let values = annotations.entry(key).or_default();
        if !values.contains(&value) {
            values.push(value);
        }
    }
    denials.extend(outcome.failed_annotations.into_iter().map(|message| Denial {
        policy: policy.name.clone(),
        binding: Some(binding.name.clone()),
        reason: None,
        message,
    }));
}

/// The namespace of the request, as expressions see it.
fn namespace(world: &World<'_>, attributes: &Attributes<'_>) -> Result<Value, Status> {
    let Some(name) = attributes.target.namespace.as_deref() else {
        return Ok(Value::Null);
    };
    let Some(record) = world.get("v1", "namespaces", None, name) else {
        let resource = catamaran_api::GroupResource::from_static("", "namespaces");
        return Err(Status::not_found(&resource, name));
    };
    tree(&record)
}

impl Denial {
    fn into_status(self, attributes: &Attributes<'_>, object: Option<&dyn Object>) -> Status {
        let message = match &self.binding {
            Some(binding) => format!(
                "ValidatingAdmissionPolicy '{}' with binding '{binding}' denied request: {}",
                self.policy, self.message
            ),
            None => format!(
                "ValidatingAdmissionPolicy '{}' denied request: {}",
                self.policy, self.message
            ),
        };
        let mut status = attributes.forbidden(object, &message).into_inner();
        let reason = self.reason.unwrap_or_else(|| "Invalid".to_owned());
        status.code = Some(match reason.as_str() {
            "Unauthorized" => 401,
            "Forbidden" => 403,
            "RequestEntityTooLarge" => 413,
            _ => 422,
        });
        status.reason = Some(reason);
        let causes = status.details.get_or_insert_default().causes.get_or_insert_default();
        causes.push(StatusCause {
            message: Some(message),
            ..StatusCause::default()
        });
        status.into()
    }
}
