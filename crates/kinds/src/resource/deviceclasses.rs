//! DeviceClass: devices of one sort, and how they are set up.

use super::claim::MAX_CONFIG;
use super::rules::{each, opaque, selectors};
use crate::{Kind, differs};
use catamaran_api::{Errors, Path, names};
use k8s_openapi::api::resource::v1::DeviceClass;

pub(crate) struct DeviceClasses;

impl Kind for DeviceClasses {
    type Object = DeviceClass;
    const NAMESPACED: bool = false;

    fn spec_changed(&self, new: &DeviceClass, old: &DeviceClass) -> Option<bool> {
        differs(&new.spec, &old.spec)
    }

    fn validate(&self, object: &DeviceClass, errors: &mut Errors) {
        let path = Path::new("spec");
        let spec = &object.spec;
        selectors(spec.selectors.as_deref(), &path.child("selectors"), errors);
        let config = spec.config.as_deref().unwrap_or_default();
        each(
            config,
            MAX_CONFIG,
            &path.child("config"),
            errors,
            |config, at, errors| {
                opaque(config.opaque.as_ref(), at, errors);
            },
        );
        if let Some(name) = spec.extended_resource_name.as_deref().filter(|name| !is_extended(name)) {
            let detail = "must be a valid extended resource name";
            errors.invalid(&path.child("extendedResourceName"), name, detail);
        }
    }
}

/// `example.com/gpu`: not one of the cluster's own, and good for a quota too.
fn is_extended(name: &str) -> bool {
    let native = !name.contains('/') || name.contains("kubernetes.io/");
    !native && !name.starts_with("requests.") && names::qualified_name(&format!("requests.{name}")).is_empty()
}
