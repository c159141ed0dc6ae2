//! Names of resources, and which of them may stand where: what containers use, what quotas count, what limits bound.

use crate::rules;
use catamaran_api::quantity::Quantity;
use catamaran_api::{Errors, Path, names};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Amount;

/// What a quota can count without a prefix. With `storage` these are all names that need none.
const COUNTED: &[&str] = &[
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "persistentvolumeclaims",
    "configmaps",
    "services.nodeports",
    "services.loadbalancers",
];

const WHOLE: &[&str] = &[
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];

/// Of Kubernetes itself: no prefix, or one that says so.
pub(crate) fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

pub(crate) fn is_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-")
}

fn is_counted_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-") || name.starts_with("requests.hugepages-")
}

/// Devices and the like: somebody else's, and usable as a quota.
pub(crate) fn is_extended(name: &str) -> bool {
    !is_native(name) && !name.starts_with("requests.") && names::qualified_name(&format!("requests.{name}")).is_empty()
}

/// Can more of it be promised than there is? Devices and huge pages cannot.
pub(crate) fn overcommits(name: &str) -> bool {
    is_native(name) && !is_huge_page(name)
}

/// Does a quota know it?
pub(crate) fn is_counted(name: &str) -> bool {
    COUNTED.contains(&name) || is_counted_huge_page(name)
}

fn is_whole(name: &str) -> bool {
    WHOLE.contains(&name) || is_extended(name)
}

/// Any resource. True if it may be looked at more closely.
pub(crate) fn resource_name(name: &str, path: &Path<'_>, errors: &mut Errors) -> bool {
    let messages = names::qualified_name(name);
    if !messages.is_empty() {
        errors.invalid_each(path, name, messages);
    } else if !name.contains('/') && name != "storage" && !is_counted(name) {
        errors.invalid(path, name, "must be a standard resource type or fully qualified");
    } else {
        return true;
    }
    false
}

/// A resource that a container asks for.
pub(crate) fn container_resource(name: &str, path: &Path<'_>, errors: &mut Errors) {
    resource_name(name, path, errors);
    if !name.contains('/') {
        if !matches!(name, "cpu" | "memory" | "ephemeral-storage") && !is_huge_page(name) {
            errors.invalid(path, name, "must be a standard resource for containers");
        }
    } else if !is_native(name) && !is_extended(name) {
        errors.invalid(path, name, "doesn't follow extended resource name standard");
    }
}

/// A resource that a quota counts.
pub(crate) fn quota_resource(name: &str, path: &Path<'_>, errors: &mut Errors) {
    resource_name(name, path, errors);
    if !name.contains('/') && !is_counted(name) {
        errors.invalid(path, name, "must be a standard resource for quota");
    }
}

/// An amount of a resource; what comes in pieces comes in whole ones.
pub(crate) fn value(name: &str, amount: &Amount, path: &Path<'_>, errors: &mut Errors) {
    rules::nonnegative_amount(amount, path, errors);
    // Thousandths, of which there may be no more than fit in 64 bits.
    if is_whole(name) && Quantity::try_from(amount).is_ok_and(|quantity| quantity.millis() % 1000 != 0) {
        errors.invalid(path, amount.0.as_str(), "must be an integer");
    }
}
