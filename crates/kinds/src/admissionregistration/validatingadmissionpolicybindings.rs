//! ValidatingAdmissionPolicyBinding: where a policy holds, with which parameters, and what follows from breaking it.

use super::matching::{default_resources, validate_match};
use crate::checks::{debug_label_selector, label_selector};
use crate::{Kind, age, differs, name};
use catamaran_api::table::Column;
use catamaran_api::{Errors, Path, names};
use k8s_openapi::api::admissionregistration::v1::{
    ParamRef, ValidatingAdmissionPolicyBinding, ValidatingAdmissionPolicyBindingSpec,
};
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

pub(crate) struct ValidatingAdmissionPolicyBindings;

const ACTIONS: [&str; 3] = ["Audit", "Deny", "Warn"];

impl Kind for ValidatingAdmissionPolicyBindings {
    type Object = ValidatingAdmissionPolicyBinding;
    const NAMESPACED: bool = false;
    const UNCONDITIONAL_UPDATE: bool = false;
    const CATEGORIES: &'static [&'static str] = &["api-extensions"];

    fn default(&self, object: &mut ValidatingAdmissionPolicyBinding) {
        if let Some(resources) = object.spec.as_mut().and_then(|spec| spec.match_resources.as_mut()) {
            default_resources(resources);
        }
    }

    fn spec_changed(
        &self,
        new: &ValidatingAdmissionPolicyBinding,
        old: &ValidatingAdmissionPolicyBinding,
    ) -> Option<bool> {
        differs(&new.spec, &old.spec)
    }

    fn validate(&self, object: &ValidatingAdmissionPolicyBinding, errors: &mut Errors) {
        let empty = ValidatingAdmissionPolicyBindingSpec::default();
        let spec = object.spec.as_ref().unwrap_or(&empty);
        let path = Path::new("spec");
        let policy = spec.policy_name.as_deref().unwrap_or_default();
        let at = path.child("policyName");
        if policy.is_empty() {
            errors.required(&at, "");
        } else {
            errors.invalid_each(&at, policy, names::dns1123_subdomain(policy));
        }
        if let Some(param) = &spec.param_ref {
            validate_param(param, &path.child("paramRef"), errors);
        }
        if let Some(resources) = &spec.match_resources {
            validate_match(resources, &path.child("matchResources"), errors);
        }
        let actions = spec.validation_actions.as_deref().unwrap_or_default();
        validate_actions(actions, &path.child("validationActions"), errors);
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            Column::NAME,
            Column::string("PolicyName", "The policy that holds."),
            Column::string("ParamRef", "The object with the parameters."),
            Column::AGE,
        ];
        COLUMNS
    }

    fn row(&self, object: &ValidatingAdmissionPolicyBinding, now: Timestamp) -> Vec<Value> {
        let spec = object.spec.clone().unwrap_or_default();
        vec![
            name(&object.metadata),
            spec.policy_name.unwrap_or_default().into(),
            param_text(spec.param_ref.as_ref()).into(),
            age(&object.metadata, now),
        ]
    }
}

fn param_text(param: Option<&ParamRef>) -> String {
    let set = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let Some(param) = param else {
        return "<unset>".to_owned();
    };
    match (set(&param.name), &param.selector) {
        (Some(name), _) => {
            let namespace = set(&param.namespace).unwrap_or_else(|| "*".to_owned());
            format!("{namespace}/{name}")
        }
        (None, Some(selector)) => debug_label_selector(selector),
        (None, None) => "<unset>".to_owned(),
    }
}

fn validate_param(param: &ParamRef, path: &Path<'_>, errors: &mut Errors) {
    const EXCLUSIVE: &str = "name and selector are mutually exclusive";
    let name = param.name.as_deref().unwrap_or_default();
    if !name.is_empty() {
        errors.invalid_each(&path.child("name"), name, names::path_segment(name));
        if param.selector.is_some() {
            errors.forbidden(&path.child("name"), EXCLUSIVE);
        }
    }
    label_selector(param.selector.as_ref(), &path.child("selector"), errors);
    match (&param.selector, name.is_empty()) {
        (Some(_), false) => errors.forbidden(&path.child("selector"), EXCLUSIVE),
        (None, true) => errors.required(path, "one of name or selector must be specified"),
        _ => {}
    }
    let at = path.child("parameterNotFoundAction");
    match param.parameter_not_found_action.as_deref().unwrap_or_default() {
        "" => errors.required(&at, ""),
        "Deny" | "Allow" => {}
        other => errors.not_supported(&at, other, &["Deny", "Allow"]),
    }
}

fn validate_actions(actions: &[String], path: &Path<'_>, errors: &mut Errors) {
    for (index, action) in actions.iter().enumerate() {
        if !ACTIONS.contains(&action.as_str()) {
            errors.not_supported(&path.index(index), action.as_str(), &ACTIONS);
        }
        if actions[..index].contains(action) {
            errors.duplicate(&path.index(index), action.as_str());
        }
    }
    let has = |wanted: &str| actions.iter().any(|action| action == wanted);
    if has("Deny") && has("Warn") {
        let detail = "must not contain both Deny and Warn (repeating the same validation failure information in the API \
                      response and headers serves no purpose)";
        errors.invalid(path, actions.to_vec(), detail);
    }
    if actions.is_empty() {
        errors.required(path, "at least one validation action is required");
    }
}
