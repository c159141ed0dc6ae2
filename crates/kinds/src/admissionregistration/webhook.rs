//! What validating and mutating webhooks have in common.

use super::matching::{FAILURE_POLICIES, MATCH_POLICIES, one_of, validate_conditions, validate_rule};
use crate::checks::{fully_qualified_name, label_selector, webhook_service};
use catamaran_api::{Errors, Path, names};
use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MutatingWebhook, RuleWithOperations, ValidatingWebhook, WebhookClientConfig,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// Versions of AdmissionReview that are spoken.
const REVIEW_VERSIONS: [&str; 2] = ["v1", "v1beta1"];
const SIDE_EFFECTS: [&str; 2] = ["None", "NoneOnDryRun"];
const URL_FORM: &str = "; desired format: https://host[/path]";

/// A webhook of either type.
pub(super) struct Hook<'a> {
    name: &'a str,
    rules: &'a [RuleWithOperations],
    failure_policy: Option<&'a str>,
    match_policy: Option<&'a str>,
    side_effects: &'a str,
    timeout: Option<i32>,
    namespace_selector: Option<&'a LabelSelector>,
    object_selector: Option<&'a LabelSelector>,
    reinvocation: Option<&'a str>,
    client: &'a WebhookClientConfig,
    conditions: &'a [MatchCondition],
    versions: &'a [String],
}

impl<'a> From<&'a ValidatingWebhook> for Hook<'a> {
    fn from(hook: &'a ValidatingWebhook) -> Self {
        Hook {
            name: &hook.name,
            rules: hook.rules.as_deref().unwrap_or_default(),
            failure_policy: hook.failure_policy.as_deref(),
            match_policy: hook.match_policy.as_deref(),
            side_effects: &hook.side_effects,
            timeout: hook.timeout_seconds,
            namespace_selector: hook.namespace_selector.as_ref(),
            object_selector: hook.object_selector.as_ref(),
            reinvocation: None,
            client: &hook.client_config,
            conditions: hook.match_conditions.as_deref().unwrap_or_default(),
            versions: &hook.admission_review_versions,
        }
    }
}

impl<'a> From<&'a MutatingWebhook> for Hook<'a> {
    fn from(hook: &'a MutatingWebhook) -> Self {
        Hook {
            name: &hook.name,
            rules: hook.rules.as_deref().unwrap_or_default(),
            failure_policy: hook.failure_policy.as_deref(),
            match_policy: hook.match_policy.as_deref(),
            side_effects: &hook.side_effects,
            timeout: hook.timeout_seconds,
            namespace_selector: hook.namespace_selector.as_ref(),
            object_selector: hook.object_selector.as_ref(),
            reinvocation: hook.reinvocation_policy.as_deref(),
            client: &hook.client_config,
            conditions: hook.match_conditions.as_deref().unwrap_or_default(),
            versions: &hook.admission_review_versions,
        }
    }
}

/// Fills in what all webhooks have.
pub(super) fn default(
    failure_policy: &mut Option<String>,
    match_policy: &mut Option<String>,
    selectors: [&mut Option<LabelSelector>; 2],
    timeout: &mut Option<i32>,
    rules: Option<&mut Vec<RuleWithOperations>>,
    client: &mut WebhookClientConfig,
) {
    failure_policy.get_or_insert_with(|| "Fail".to_owned());
    match_policy.get_or_insert_with(|| "Equivalent".to_owned());
    for selector in selectors {
        selector.get_or_insert_default();
    }
    timeout.get_or_insert(10);
    for rule in rules.into_iter().flatten() {
        rule.scope.get_or_insert_with(|| "*".to_owned());
    }
    if let Some(service) = &mut client.service {
        service.port.get_or_insert(443);
    }
}

pub(super) fn validate_all<'a>(hooks: impl Iterator<Item = Hook<'a>>, errors: &mut Errors) {
    let path = Path::new("webhooks");
    let mut seen = Vec::new();
    for (index, hook) in hooks.enumerate() {
        let at = path.index(index);
        validate(&hook, &at, errors);
        validate_versions(hook.versions, &at.child("admissionReviewVersions"), errors);
        if hook.name.is_empty() {
            continue;
        }
        if seen.contains(&hook.name) {
            errors.duplicate(&at.child("name"), hook.name);
        }
        seen.push(hook.name);
    }
}

fn validate(hook: &Hook<'_>, path: &Path<'_>, errors: &mut Errors) {
    fully_qualified_name(hook.name, &path.child("name"), errors);
    let list = path.child("rules");
    for (index, rule) in hook.rules.iter().enumerate() {
        validate_rule(rule, &list.index(index), errors);
    }
    one_of(
        hook.failure_policy,
        &FAILURE_POLICIES,
        &path.child("failurePolicy"),
        errors,
    );
    one_of(hook.match_policy, &MATCH_POLICIES, &path.child("matchPolicy"), errors);
    let at = path.child("sideEffects");
    if hook.side_effects.is_empty() {
        errors.required(&at, format!("must specify one of {}", SIDE_EFFECTS.join(", ")));
    } else {
        one_of(Some(hook.side_effects), &SIDE_EFFECTS, &at, errors);
    }
    if let Some(seconds) = hook.timeout.filter(|seconds| !(1..=30).contains(seconds)) {
        let detail = "the timeout value must be between 1 and 30 seconds";
        errors.invalid(&path.child("timeoutSeconds"), seconds, detail);
    }
    label_selector(hook.namespace_selector, &path.child("namespaceSelector"), errors);
    label_selector(hook.object_selector, &path.child("objectSelector"), errors);
    let policies = ["IfNeeded", "Never"];
    one_of(hook.reinvocation, &policies, &path.child("reinvocationPolicy"), errors);
    validate_client(hook.client, &path.child("clientConfig"), errors);
    validate_conditions(hook.conditions, &path.child("matchConditions"), errors);
}

fn validate_client(client: &WebhookClientConfig, path: &Path<'_>, errors: &mut Errors) {
    match (&client.url, &client.service) {
        (Some(url), None) => validate_url(url, &path.child("url"), errors),
        (None, Some(service)) => {
            // Name and namespace are the other way round in Kubernetes, which shows when one is missing.
            let parts = (
                service.name.as_str(),
                service.namespace.as_str(),
                service.path.as_deref(),
                service.port.unwrap_or_default(),
            );
            webhook_service(parts, &path.child("service"), errors);
        }
        _ => errors.required(path, "exactly one of url or service is required"),
    }
}

fn validate_url(url: &str, path: &Path<'_>, errors: &mut Errors) {
    let (rest, fragment) = url.split_once('#').unwrap_or((url, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (scheme, rest) = rest.split_once("://").unwrap_or(("", rest));
    let authority = if scheme.is_empty() {
        ""
    } else {
        rest.split('/').next().unwrap_or_default()
    };
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    if scheme != "https" {
        let detail = format!("'https' is the only allowed URL scheme{URL_FORM}");
        errors.invalid(path, scheme, detail);
    }
    if host.is_empty() {
        errors.invalid(path, "", format!("host must be specified{URL_FORM}"));
    }
    if let Some(user) = user {
        errors.invalid(path, user, "user information is not permitted in the URL");
    }
    if !fragment.is_empty() {
        errors.invalid(path, fragment, "fragments are not permitted in the URL");
    }
    if !query.is_empty() {
        errors.invalid(path, query, "query parameters are not permitted in the URL");
    }
}

fn validate_versions(versions: &[String], path: &Path<'_>, errors: &mut Errors) {
    let spoken = REVIEW_VERSIONS.join(", ");
    if versions.is_empty() {
        return errors.required(path, format!("must specify one of {spoken}"));
    }
    for (index, version) in versions.iter().enumerate() {
        let at = path.index(index);
        if versions[..index].contains(version) {
            errors.invalid(&at, version.as_str(), "duplicate version");
            continue;
        }
        errors.invalid_each(&at, version, names::dns1035_label(version));
    }
    if !versions
        .iter()
        .any(|version| REVIEW_VERSIONS.contains(&version.as_str()))
    {
        errors.invalid(
            path,
            versions.to_vec(),
            format!("must include at least one of {spoken}"),
        );
    }
}
