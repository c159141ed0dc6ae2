//! How objects get from version to version.

use crate::checks::webhook_service;
use catamaran_api::field::{Errors, Path};
use catamaran_api::names::dns1035_label;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceConversion, WebhookClientConfig,
};

/// Versions of ConversionReview that Kubernetes speaks.
const REVIEW_VERSIONS: [&str; 2] = ["v1", "v1beta1"];

pub(super) fn validate(path: &Path<'_>, conversion: &CustomResourceConversion, errors: &mut Errors) {
    let strategy = path.child("strategy");
    match conversion.strategy.as_str() {
        "" => errors.required(&strategy, ""),
        "None" | "Webhook" => {}
        other => errors.not_supported(&strategy, other, &["None", "Webhook"]),
    }
    // Errors name the fields as Kubernetes holds them internally.
    let client_path = path.child("webhookClientConfig");
    let versions_path = path.child("conversionReviewVersions");
    let client = conversion
        .webhook
        .as_ref()
        .and_then(|webhook| webhook.client_config.as_ref());
    let versions = conversion
        .webhook
        .as_ref()
        .map_or(&[][..], |webhook| webhook.conversion_review_versions.as_slice());
    if conversion.strategy != "Webhook" {
        if client.is_some() {
            errors.forbidden(&client_path, "should not be set when strategy is not set to Webhook");
        }
        if !versions.is_empty() {
            errors.forbidden(&versions_path, "should not be set when strategy is not set to Webhook");
        }
        return;
    }
    match client {
        None => errors.required(&client_path, "required when strategy is set to Webhook"),
        Some(client) => validate_client(&client_path, client, errors),
    }
    validate_versions(&versions_path, versions, errors);
}

fn validate_client(path: &Path<'_>, client: &WebhookClientConfig, errors: &mut Errors) {
    match (&client.url, &client.service) {
        (Some(url), None) => validate_url(&path.child("url"), url, errors),
        (None, Some(service)) => webhook_service(
            (
                &service.namespace,
                &service.name,
                service.path.as_deref(),
                service.port.unwrap_or(443),
            ),
            &path.child("service"),
            errors,
        ),
        _ => errors.required(path, "exactly one of url or service is required"),
    }
}

fn validate_url(path: &Path<'_>, url: &str, errors: &mut Errors) {
    let form = "; desired format: https://host[/path]";
    let Some((scheme, rest)) = url.split_once("://") else {
        errors.required(path, format!("url must be a valid URL{form}"));
        return;
    };
    let (rest, fragment) = rest
        .split_once('#')
        .map_or((rest, None), |(rest, fragment)| (rest, Some(fragment)));
    let (rest, query) = rest
        .split_once('?')
        .map_or((rest, None), |(rest, query)| (rest, Some(query)));
    let authority = rest.split('/').next().unwrap_or_default();
    let (user, host) = authority
        .rsplit_once('@')
        .map_or((None, authority), |(user, host)| (Some(user), host));
    if scheme != "https" {
        errors.invalid(path, scheme, format!("'https' is the only allowed URL scheme{form}"));
    }
    if host.is_empty() {
        errors.invalid(path, host, format!("host must be specified{form}"));
    }
    if let Some(user) = user {
        errors.invalid(path, user, "user information is not permitted in the URL");
    }
    if let Some(fragment) = fragment {
        errors.invalid(path, fragment, "fragments are not permitted in the URL");
    }
    if let Some(query) = query {
        errors.invalid(path, query, "query parameters are not permitted in the URL");
    }
}

fn validate_versions(path: &Path<'_>, versions: &[String], errors: &mut Errors) {
    if versions.is_empty() {
        errors.required(path, "");
        return;
    }
    for (index, version) in versions.iter().enumerate() {
        let path = path.index(index);
        if versions[..index].contains(version) {
            errors.invalid(&path, version.as_str(), "duplicate version");
        } else {
            errors.invalid_each(&path, version, dns1035_label(version));
        }
    }
    if !versions
        .iter()
        .any(|version| REVIEW_VERSIONS.contains(&version.as_str()))
    {
        let detail = format!("must include at least one of {}", REVIEW_VERSIONS.join(", "));
        errors.invalid(path, versions.to_vec(), detail);
    }
}
