//! What containers and whole pods ask for and may have at most, and the claims they use.

use crate::core::amounts;
use crate::rules;
use catamaran_api::field::Reason;
use catamaran_api::quantity::Quantity;
use catamaran_api::{Errors, Path, names};
use k8s_openapi::api::core::v1::{
    Container, ContainerResizePolicy, PodResourceClaim, PodSpec, ResourceClaim, ResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Amount;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Names of the claims of a pod that its containers may use.
pub(super) type Claims<'s> = BTreeSet<&'s str>;

pub(super) fn claims<'s>(spec: &'s PodSpec, path: &Path<'_>, errors: &mut Errors) -> Claims<'s> {
    let mut seen = Claims::new();
    for (index, claim) in spec.resource_claims.iter().flatten().enumerate() {
        let at = path.index(index);
        let name = at.child("name");
        if claim.name.is_empty() {
            errors.required(&name, "");
        } else if !seen.insert(&claim.name) {
            errors.duplicate(&name, claim.name.as_str());
        } else {
            errors.invalid_each(&name, &claim.name, names::dns1123_label(&claim.name));
        }
        sources_of_claim(claim, &at, errors);
    }
    seen
}

/// A claim as Kubernetes' own type has it, for errors.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Claim<'a> {
    name: &'a str,
    resource_claim_name: Option<&'a str>,
    resource_claim_template_name: Option<&'a str>,
}

fn sources_of_claim(claim: &PodResourceClaim, path: &Path<'_>, errors: &mut Errors) {
    let shown = Claim {
        name: &claim.name,
        resource_claim_name: claim.resource_claim_name.as_deref(),
        resource_claim_template_name: claim.resource_claim_template_name.as_deref(),
    };
    match (&claim.resource_claim_name, &claim.resource_claim_template_name) {
        (Some(_), Some(_)) => errors.ordered(
            Reason::Invalid,
            path,
            &shown,
            "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified",
        ),
        (None, None) => errors.ordered(
            Reason::Invalid,
            path,
            &shown,
            "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
        ),
        _ => {}
    }
    for (field, name) in [
        ("resourceClaimName", &claim.resource_claim_name),
        ("resourceClaimTemplateName", &claim.resource_claim_template_name),
    ] {
        if let Some(name) = name {
            errors.invalid_each(&path.child(field), name, names::dns1123_subdomain(name));
        }
    }
}

pub(super) fn of_container(resources: &ResourceRequirements, known: &Claims<'_>, path: &Path<'_>, errors: &mut Errors) {
    requirements(resources, amounts::container_resource, path, errors);
    let used = resources.claims.as_deref().unwrap_or_default();
    used_claims(used, known, &path.child("claims"), errors);
}

/// Amounts as such: limits may not be below requests, and what cannot be shared has to be the same in both.
fn requirements(
    resources: &ResourceRequirements,
    name_rule: fn(&str, &Path<'_>, &mut Errors),
    path: &Path<'_>,
    errors: &mut Errors,
) {
    let none = BTreeMap::new();
    let limits = resources.limits.as_ref().unwrap_or(&none);
    let requests = resources.requests.as_ref().unwrap_or(&none);
    let (at_limits, at_requests) = (path.child("limits"), path.child("requests"));
    for (name, limit) in limits {
        amount(name, limit, name_rule, &at_limits.key(name), errors);
    }
    for (name, request) in requests {
        amount(name, request, name_rule, &at_requests.key(name), errors);
        let exact = !amounts::overcommits(name);
        let Some(limit) = limits.get(name) else {
            if exact {
                errors.required(&at_limits, "Limit must be set for non overcommitable resources");
            }
            continue;
        };
        let quantity = |amount: &Amount| Quantity::try_from(amount).unwrap_or_default();
        if exact && quantity(request) != quantity(limit) {
            let detail = format!("must be equal to {name} limit of {}", limit.0);
            errors.invalid(&at_requests, request.0.as_str(), detail);
        } else if quantity(request) > quantity(limit) {
            let detail = format!("must be less than or equal to {name} limit of {}", limit.0);
            errors.invalid(&at_requests, request.0.as_str(), detail);
        }
    }
    let names = || limits.keys().chain(requests.keys());
    let computes = names().any(|name| matches!(name.as_str(), "cpu" | "memory"));
    if names().any(|name| amounts::is_huge_page(name)) && !computes {
        errors.forbidden(path, "HugePages require cpu or memory");
    }
}

fn amount(
    name: &str,
    amount: &Amount,
    name_rule: fn(&str, &Path<'_>, &mut Errors),
    path: &Path<'_>,
    errors: &mut Errors,
) {
    name_rule(name, path, errors);
    amounts::value(name, amount, path, errors);
    let size = name
        .strip_prefix("hugepages-")
        .and_then(|size| Quantity::parse(size).ok());
    if let (Some(size), Ok(quantity)) = (size, Quantity::try_from(amount)) {
        let (size, bytes) = (size.units(), quantity.units());
        if size > 0 && bytes % size != 0 {
            let detail = format!("{} is not positive integer multiple of {name}", amount.0);
            errors.invalid(path, amount.0.as_str(), detail);
        }
    }
}

fn used_claims(used: &[ResourceClaim], known: &Claims<'_>, path: &Path<'_>, errors: &mut Errors) {
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for (index, claim) in used.iter().enumerate() {
        let at = path.index(index);
        if claim.name.is_empty() {
            errors.required(&at, "");
            continue;
        }
        let request = claim.request.as_deref().unwrap_or_default();
        let mut key = claim.name.clone();
        if !request.is_empty() {
            errors.invalid_each(&at.child("request"), request, names::dns1123_label(request));
            key = format!("{key}/{request}");
        }
        let part_of = format!("{}/", claim.name);
        let covered = request.is_empty() && seen.iter().any(|other| other.starts_with(&part_of));
        if seen.contains(&claim.name) {
            errors.duplicate(&at, claim.name.as_str());
        } else if seen.contains(&key) || covered {
            errors.duplicate(&at, key.as_str());
        }
        seen.insert(key);
        if !known.contains(claim.name.as_str()) {
            let mut detail = "must be one of the names in pod.spec.resourceClaims".to_owned();
            if known.is_empty() {
                detail.push_str(" which is empty");
            } else {
                let known: Vec<&str> = known.iter().copied().collect();
                detail = format!("{detail}: {}", known.join(", "));
            }
            let reason = catamaran_api::field::Reason::NotFound;
            let name = Some(claim.name.as_str().into());
            errors.push(catamaran_api::field::FieldError::new(reason, &at, name, detail));
        }
    }
}

fn pod_resource(name: &str, path: &Path<'_>, errors: &mut Errors) {
    if amounts::resource_name(name, path, errors) && !matches!(name, "cpu" | "memory") && !amounts::is_huge_page(name) {
        errors.not_supported(path, name, &["cpu", "memory"]);
    }
}

/// Amounts for the pod as a whole, which bound those of its containers.
pub(super) fn of_pod(spec: &PodSpec, path: &Path<'_>, errors: &mut Errors) {
    let Some(resources) = &spec.resources else { return };
    let path = path.child("resources");
    if spec.os.as_ref().is_some_and(|os| os.name == "windows") {
        errors.forbidden(&path, "may not be set for a windows pod");
        return;
    }
    if resources.claims.is_some() {
        errors.forbidden(
            &path.child("claims"),
            "claims may not be set for Resources at pod-level",
        );
    }
    requirements(resources, pod_resource, &path, errors);
    let quantity = |amount: &Amount| Quantity::try_from(amount).unwrap_or_default();
    let at = path.child("requests");
    for (name, request) in resources.requests.iter().flatten() {
        let sum = requested(spec, name);
        if sum > quantity(request) {
            let detail = format!("must be greater than or equal to aggregate container requests of {sum}");
            errors.invalid(&at.key(name), request.0.as_str(), detail);
        }
    }
    let list = path.child("containers");
    for (index, container) in spec.containers.iter().enumerate() {
        let limits = container
            .resources
            .as_ref()
            .and_then(|resources| resources.limits.as_ref());
        for (name, limit) in limits.into_iter().flatten() {
            let Some(of_pod) = resources.limits.as_ref().and_then(|limits| limits.get(name)) else {
                continue;
            };
            if quantity(limit) > quantity(of_pod) {
                let at = list.index(index);
                let detail = format!("must be less than or equal to pod limits of {}", of_pod.0);
                errors.invalid(&at.key(name).child("limits"), limit.0.as_str(), detail);
            }
        }
    }
}

/// What all containers together ask for: those that run beside each other add up, init containers come one after another.
fn requested(spec: &PodSpec, name: &str) -> Quantity {
    let of = |container: &Container| {
        let requests = container
            .resources
            .as_ref()
            .and_then(|resources| resources.requests.as_ref());
        let amount = requests.and_then(|requests| requests.get(name));
        amount
            .and_then(|amount| Quantity::try_from(amount).ok())
            .unwrap_or_default()
    };
    let running: Quantity = spec.containers.iter().map(of).sum();
    let (mut sidecars, mut most) = (Quantity::ZERO, Quantity::ZERO);
    for container in spec.init_containers.iter().flatten() {
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars += of(container);
            most = most.max(sidecars);
        } else {
            most = most.max(sidecars + of(container));
        }
    }
    (running + sidecars).max(most)
}

/// What becomes of a running container whose resources change.
pub(super) fn resize_policy(
    policies: &[ContainerResizePolicy],
    restart_policy: &str,
    path: &Path<'_>,
    errors: &mut Errors,
) {
    for (index, policy) in policies.iter().enumerate() {
        let same = |other: &ContainerResizePolicy| other.resource_name == policy.resource_name;
        if policies[..index].iter().any(same) {
            errors.duplicate(&path.index(index), policy.resource_name.as_str());
        }
        rules::one_of_required(&policy.resource_name, &["cpu", "memory"], path, errors);
        let supported = ["NotRequired", "RestartContainer"];
        rules::one_of_required(&policy.restart_policy, &supported, path, errors);
        if restart_policy == "Never" && policy.restart_policy != "NotRequired" {
            let detail = "must be 'NotRequired' when `restartPolicy` is 'Never'";
            errors.invalid(path, policy.restart_policy.as_str(), detail);
        }
    }
}
