//! Where an Ingress sends requests: to a port of a service, or to something else that is named.

use catamaran_api::{Errors, Path, names};
use k8s_openapi::api::networking::v1::{IngressBackend, IngressServiceBackend};

pub(super) fn validate(backend: &IngressBackend, path: &Path<'_>, errors: &mut Errors) {
    match (&backend.resource, &backend.service) {
        (Some(_), Some(_)) => errors.invalid(path, "", "cannot set both resource and service backends"),
        (None, None) => errors.invalid(path, "", "resource or service backend is required"),
        (None, Some(service)) => validate_service(service, path, errors),
        (Some(resource), None) => {
            let at = path.child("resource");
            validate_reference(
                resource.api_group.as_deref(),
                &resource.kind,
                &resource.name,
                &at,
                errors,
            );
        }
    }
}

fn validate_service(service: &IngressServiceBackend, path: &Path<'_>, errors: &mut Errors) {
    let at = path.child("service");
    if service.name.is_empty() {
        errors.required(&at.child("name"), "");
    } else {
        errors.invalid_each(&at.child("name"), &service.name, names::dns1035_label(&service.name));
    }
    let port = service.port.clone().unwrap_or_default();
    let name = port.name.as_deref().filter(|name| !name.is_empty());
    let number = port.number.filter(|number| *number != 0);
    let at = at.child("port");
    match (name, number) {
        (Some(_), Some(_)) => errors.invalid(path, "", "cannot set both port name & port number"),
        (Some(name), None) => errors.invalid_each(&at.child("name"), name, names::port_name(name)),
        (None, Some(number)) => {
            for message in names::port_number(number) {
                errors.invalid(&at.child("number"), number, message);
            }
        }
        (None, None) => errors.required(path, "port name or number is required"),
    }
}

/// A reference to an object of any kind.
pub(super) fn validate_reference(group: Option<&str>, kind: &str, name: &str, path: &Path<'_>, errors: &mut Errors) {
    if let Some(group) = group {
        errors.invalid_each(&path.child("apiGroup"), group, names::dns1123_subdomain(group));
    }
    for (field, value) in [("kind", kind), ("name", name)] {
        let at = path.child(field);
        if value.is_empty() {
            errors.required(&at, "");
        } else {
            errors.invalid_each(&at, value, names::path_segment(value));
        }
    }
}
