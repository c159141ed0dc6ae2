//! IngressClass: a controller for ingresses, and its parameters.

use super::backend;
use crate::checks::{domain_prefixed_path, immutable};
use crate::{Kind, age, differs, name};
use catamaran_api::table::Column;
use catamaran_api::{Errors, Path, names};
use k8s_openapi::api::networking::v1::{IngressClass, IngressClassParametersReference, IngressClassSpec};
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

pub(crate) struct IngressClasses;

const MAX_CONTROLLER: usize = 250;

impl Kind for IngressClasses {
    type Object = IngressClass;
    const NAMESPACED: bool = false;

    fn default(&self, object: &mut IngressClass) {
        if let Some(parameters) = object.spec.as_mut().and_then(|spec| spec.parameters.as_mut()) {
            parameters.scope.get_or_insert_with(|| "Cluster".to_owned());
        }
    }

    fn spec_changed(&self, new: &IngressClass, old: &IngressClass) -> Option<bool> {
        differs(&new.spec, &old.spec)
    }

    fn validate(&self, object: &IngressClass, errors: &mut Errors) {
        let path = Path::new("spec");
        let empty = IngressClassSpec::default();
        let spec = object.spec.as_ref().unwrap_or(&empty);
        let controller = spec.controller.as_deref().unwrap_or_default();
        if controller.len() > MAX_CONTROLLER {
            errors.too_long(&path.child("controller"), MAX_CONTROLLER);
        }
        domain_prefixed_path(controller, &path.child("controller"), errors);
        if let Some(parameters) = &spec.parameters {
            validate_parameters(parameters, &path.child("parameters"), errors);
        }
    }

    fn validate_update(&self, new: &IngressClass, old: &IngressClass, errors: &mut Errors) {
        let controller = |object: &IngressClass| {
            let spec = object.spec.as_ref();
            spec.and_then(|spec| spec.controller.clone()).unwrap_or_default()
        };
        let path = Path::new("spec");
        immutable(&controller(new), &controller(old), &path.child("controller"), errors);
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            Column::NAME,
            Column::string("Controller", "Who serves ingresses of this class."),
            Column::string("Parameters", "The object with settings for the controller."),
            Column::AGE,
        ];
        COLUMNS
    }

    fn row(&self, object: &IngressClass, now: Timestamp) -> Vec<Value> {
        let spec = object.spec.clone().unwrap_or_default();
        let parameters = spec.parameters.map_or_else(
            || "<none>".to_owned(),
            |to| match to.api_group {
                Some(group) => format!("{}.{group}/{}", to.kind, to.name),
                None => format!("{}/{}", to.kind, to.name),
            },
        );
        vec![
            name(&object.metadata),
            spec.controller.unwrap_or_default().into(),
            parameters.into(),
            age(&object.metadata, now),
        ]
    }
}

fn validate_parameters(parameters: &IngressClassParametersReference, path: &Path<'_>, errors: &mut Errors) {
    let group = parameters.api_group.as_deref();
    backend::validate_reference(group, &parameters.kind, &parameters.name, path, errors);
    let at = path.child("namespace");
    match (parameters.scope.as_deref(), parameters.namespace.as_deref()) {
        (None, _) => errors.required(&path.child("scope"), ""),
        (Some("Namespace"), None) => errors.required(&at, "`parameters.scope` is set to 'Namespace'"),
        (Some("Namespace"), Some(namespace)) => {
            errors.invalid_each(&at, namespace, names::dns1123_label(namespace));
        }
        (Some("Cluster"), Some(_)) => errors.forbidden(&at, "`parameters.scope` is set to 'Cluster'"),
        (Some("Cluster"), None) => {}
        (Some(other), _) => errors.not_supported(&path.child("scope"), other, &["Cluster", "Namespace"]),
    }
}
