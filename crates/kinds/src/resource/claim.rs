//! What a claim asks for: requests, constraints between them, and settings for drivers.

use super::rules::{device_class, each, each_once, fully_qualified, label, opaque, selectors, toleration};
use catamaran_api::{Errors, Path};
use k8s_openapi::api::resource::v1::{
    DeviceClaim, DeviceConstraint, DeviceRequest, DeviceSelector, DeviceSubRequest, DeviceToleration,
    ExactDeviceRequest, ResourceClaimSpec,
};
use serde_json::Value;

pub(super) const MAX_REQUESTS: usize = 32;
const MAX_CONSTRAINTS: usize = 32;
pub(super) const MAX_CONFIG: usize = 32;
const MAX_ALTERNATIVES: usize = 8;
const MAX_TOLERATIONS: usize = 16;

pub(super) fn default(spec: &mut ResourceClaimSpec) {
    for request in spec
        .devices
        .iter_mut()
        .flat_map(|devices| devices.requests.iter_mut().flatten())
    {
        if let Some(exactly) = &mut request.exactly {
            default_mode(&mut exactly.allocation_mode, &mut exactly.count);
            default_operators(exactly.tolerations.as_mut());
        }
        for alternative in request.first_available.iter_mut().flatten() {
            default_mode(&mut alternative.allocation_mode, &mut alternative.count);
            default_operators(alternative.tolerations.as_mut());
        }
    }
}

fn default_mode(mode: &mut Option<String>, count: &mut Option<i64>) {
    if mode.as_ref().is_none_or(String::is_empty) {
        *mode = Some("ExactCount".to_owned());
    }
    if mode.as_deref() == Some("ExactCount") && count.unwrap_or_default() == 0 {
        *count = Some(1);
    }
}

pub(super) fn default_operators(tolerations: Option<&mut Vec<DeviceToleration>>) {
    for toleration in tolerations.into_iter().flatten() {
        toleration.operator.get_or_insert_with(|| "Equal".to_owned());
    }
}

/// The names that constraints, settings and results may refer to: `request` and `request/alternative`.
pub(super) struct Requests<'a>(Vec<(&'a str, Vec<&'a str>)>);

impl<'a> Requests<'a> {
    pub(super) fn of(claim: Option<&'a DeviceClaim>) -> Self {
        let requests = claim.and_then(|claim| claim.requests.as_deref()).unwrap_or_default();
        Requests(
            requests
                .iter()
                .map(|request| {
                    let alternatives = request.first_available.iter().flatten();
                    let names = alternatives.map(|alternative| alternative.name.as_str()).collect();
                    (request.name.as_str(), names)
                })
                .collect(),
        )
    }

    fn has(&self, reference: &str) -> bool {
        let (name, alternative) = match reference.split_once('/') {
            Some((name, alternative)) => (name, Some(alternative)),
            None => (reference, None),
        };
        let found = self.0.iter().find(|(own, _)| *own == name);
        found.is_some_and(|(_, alternatives)| alternative.is_none_or(|wanted| alternatives.contains(&wanted)))
    }

    pub(super) fn check(&self, reference: &str, path: &Path<'_>, errors: &mut Errors) {
        const DETAIL: &str = "must be the name of a request in the claim or the name of a request and a subrequest separated \
                              by '/'";
        if reference.matches('/').count() > 1 {
            return errors.invalid(path, reference, DETAIL);
        }
        for segment in reference.split('/') {
            label(segment, path, errors);
        }
        if !self.has(reference) {
            errors.invalid(path, reference, DETAIL);
        }
    }

    pub(super) fn check_all(&self, references: Option<&[String]>, path: &Path<'_>, errors: &mut Errors) {
        let check = |name: &String, at: &Path<'_>, errors: &mut Errors| self.check(name, at, errors);
        let key = |name: &String| name.clone();
        each_once(references.unwrap_or_default(), MAX_REQUESTS, path, errors, key, check);
    }
}

pub(super) fn validate(spec: &ResourceClaimSpec, path: &Path<'_>, errors: &mut Errors) {
    let Some(claim) = &spec.devices else { return };
    let path = path.child("devices");
    let names = Requests::of(Some(claim));
    let requests = claim.requests.as_deref().unwrap_or_default();
    let key = |request: &DeviceRequest| request.name.clone();
    each_once(
        requests,
        MAX_REQUESTS,
        &path.child("requests"),
        errors,
        key,
        validate_request,
    );
    let constraints = claim.constraints.as_deref().unwrap_or_default();
    let check = |constraint: &DeviceConstraint, at: &Path<'_>, errors: &mut Errors| {
        validate_constraint(constraint, &names, at, errors);
    };
    each(constraints, MAX_CONSTRAINTS, &path.child("constraints"), errors, check);
    let config = claim.config.as_deref().unwrap_or_default();
    each(
        config,
        MAX_CONFIG,
        &path.child("config"),
        errors,
        |config, at, errors| {
            names.check_all(config.requests.as_deref(), &at.child("requests"), errors);
            opaque(config.opaque.as_ref(), at, errors);
        },
    );
}

fn validate_request(request: &DeviceRequest, path: &Path<'_>, errors: &mut Errors) {
    label(&request.name, &path.child("name"), errors);
    let alternatives = request.first_available.as_deref().unwrap_or_default();
    match (&request.exactly, alternatives.is_empty()) {
        (None, true) => errors.required(path, "exactly one of `exactly` or `firstAvailable` is required"),
        (Some(_), false) => {
            let detail = "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set";
            errors.invalid(path, Value::Null, detail);
        }
        (None, false) => {
            let key = |alternative: &DeviceSubRequest| alternative.name.clone();
            let list = path.child("firstAvailable");
            each_once(alternatives, MAX_ALTERNATIVES, &list, errors, key, validate_alternative);
        }
        (Some(exactly), true) => validate_exactly(exactly, &path.child("exactly"), errors),
    }
}

fn validate_exactly(request: &ExactDeviceRequest, path: &Path<'_>, errors: &mut Errors) {
    let parts = Asked {
        class: &request.device_class_name,
        selectors: request.selectors.as_deref(),
        mode: request.allocation_mode.as_deref().unwrap_or_default(),
        count: request.count.unwrap_or_default(),
        tolerations: request.tolerations.as_deref().unwrap_or_default(),
    };
    parts.validate(path, errors);
}

fn validate_alternative(request: &DeviceSubRequest, path: &Path<'_>, errors: &mut Errors) {
    label(&request.name, &path.child("name"), errors);
    let parts = Asked {
        class: &request.device_class_name,
        selectors: request.selectors.as_deref(),
        mode: request.allocation_mode.as_deref().unwrap_or_default(),
        count: request.count.unwrap_or_default(),
        tolerations: request.tolerations.as_deref().unwrap_or_default(),
    };
    parts.validate(path, errors);
}

/// What both forms of a request ask for.
struct Asked<'a> {
    class: &'a str,
    selectors: Option<&'a [DeviceSelector]>,
    mode: &'a str,
    count: i64,
    tolerations: &'a [DeviceToleration],
}

impl Asked<'_> {
    fn validate(&self, path: &Path<'_>, errors: &mut Errors) {
        device_class(self.class, &path.child("deviceClassName"), errors);
        selectors(self.selectors, &path.child("selectors"), errors);
        let count = self.count;
        match self.mode {
            "All" if count != 0 => {
                let detail = "must not be specified when allocationMode is 'All'";
                errors.invalid(&path.child("count"), count, detail);
            }
            "ExactCount" if count <= 0 => errors.invalid(&path.child("count"), count, "must be greater than zero"),
            "All" | "ExactCount" => {}
            other => errors.not_supported(&path.child("allocationMode"), other, &["All", "ExactCount"]),
        }
        each(
            self.tolerations,
            MAX_TOLERATIONS,
            &path.child("tolerations"),
            errors,
            toleration,
        );
    }
}

fn validate_constraint(constraint: &DeviceConstraint, names: &Requests<'_>, path: &Path<'_>, errors: &mut Errors) {
    names.check_all(constraint.requests.as_deref(), &path.child("requests"), errors);
    match (&constraint.match_attribute, &constraint.distinct_attribute) {
        (Some(name), _) => fully_qualified(name, &path.child("matchAttribute"), errors),
        (None, Some(name)) => fully_qualified(name, &path.child("distinctAttribute"), errors),
        (None, None) => errors.required(&path.child("matchAttribute"), ""),
    }
}
