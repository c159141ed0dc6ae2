//! ValidatingAdmissionPolicy: rules for objects, in CEL. They hold where a binding says so.

use super::matching::{FAILURE_POLICIES, default_resources, one_of, validate_conditions, validate_match};
use crate::checks::{conditions, reset_metadata_for_status, shown};
use crate::{Kind, STATUS, Subresource, age, differs, name};
use catamaran_api::table::Column;
use catamaran_api::{Errors, Path, names};
use k8s_openapi::api::admissionregistration::v1::{
    AuditAnnotation, ParamKind, ValidatingAdmissionPolicy, ValidatingAdmissionPolicySpec,
    ValidatingAdmissionPolicyStatus, Validation, Variable,
};
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

pub(crate) struct ValidatingAdmissionPolicies;

const MAX_ANNOTATIONS: usize = 20;
/// Longest expression for the value of an audit annotation, in bytes.
const MAX_ANNOTATION_EXPRESSION: usize = 5 * 1024;
const REASONS: [&str; 3] = ["Forbidden", "Invalid", "RequestEntityTooLarge"];
/// Words that CEL keeps for itself.
const RESERVED: [&str; 21] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

impl Kind for ValidatingAdmissionPolicies {
    type Object = ValidatingAdmissionPolicy;
    const NAMESPACED: bool = false;
    const UNCONDITIONAL_UPDATE: bool = false;
    const CATEGORIES: &'static [&'static str] = &["api-extensions"];
    const SUBRESOURCES: &'static [Subresource] = &[STATUS];

    fn default(&self, object: &mut ValidatingAdmissionPolicy) {
        let Some(spec) = &mut object.spec else { return };
        spec.failure_policy.get_or_insert_with(|| "Fail".to_owned());
        if let Some(resources) = &mut spec.match_constraints {
            default_resources(resources);
        }
    }

    fn prepare_create(&self, object: &mut ValidatingAdmissionPolicy) {
        object.status = Some(ValidatingAdmissionPolicyStatus::default());
    }

    fn prepare_update(&self, new: &mut ValidatingAdmissionPolicy, old: &ValidatingAdmissionPolicy) {
        new.status.clone_from(&old.status);
    }

    fn prepare_status(&self, new: &mut ValidatingAdmissionPolicy, old: &ValidatingAdmissionPolicy) {
        new.spec.clone_from(&old.spec);
        reset_metadata_for_status(&mut new.metadata, &old.metadata);
    }

    fn spec_changed(&self, new: &ValidatingAdmissionPolicy, old: &ValidatingAdmissionPolicy) -> Option<bool> {
        differs(&new.spec, &old.spec)
    }

    fn validate(&self, object: &ValidatingAdmissionPolicy, errors: &mut Errors) {
        let empty = ValidatingAdmissionPolicySpec::default();
        let spec = object.spec.as_ref().unwrap_or(&empty);
        let name = object.metadata.name.as_deref().unwrap_or_default();
        validate_spec(name, spec, errors);
    }

    fn validate_status(&self, new: &ValidatingAdmissionPolicy, _old: &ValidatingAdmissionPolicy, errors: &mut Errors) {
        let Some(status) = &new.status else { return };
        let path = Path::new("status");
        let warnings = status
            .type_checking
            .as_ref()
            .and_then(|checking| checking.expression_warnings.as_deref());
        let at = path.child("typeChecking");
        let list = at.child("expressionWarnings");
        for (index, warning) in warnings.unwrap_or_default().iter().enumerate() {
            let at = list.index(index);
            if warning.warning.is_empty() {
                errors.required(&at.child("warning"), "");
            }
            if warning.field_ref.trim().is_empty() {
                errors.required(&at.child("fieldRef"), "");
            }
        }
        conditions(
            status.conditions.as_deref().unwrap_or_default(),
            &path.child("conditions"),
            errors,
        );
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            Column::NAME,
            Column::integer("Validations", "How many rules there are."),
            Column::string("ParamKind", "The kind of objects that have parameters for the rules."),
            Column::AGE,
        ];
        COLUMNS
    }

    fn row(&self, object: &ValidatingAdmissionPolicy, now: Timestamp) -> Vec<Value> {
        let spec = object.spec.as_ref();
        let validations = spec.and_then(|spec| spec.validations.as_ref()).map_or(0, Vec::len);
        let kind = spec.and_then(|spec| spec.param_kind.as_ref());
        let kind = kind.map_or_else(
            || "<unset>".to_owned(),
            |kind| {
                let version = kind.api_version.as_deref().unwrap_or_default();
                format!("{version}/{}", kind.kind.as_deref().unwrap_or_default())
            },
        );
        vec![
            name(&object.metadata),
            validations.into(),
            kind.into(),
            age(&object.metadata, now),
        ]
    }
}

fn validate_spec(name: &str, spec: &ValidatingAdmissionPolicySpec, errors: &mut Errors) {
    let path = Path::new("spec");
    let at = path.child("failurePolicy");
    if spec.failure_policy.is_none() {
        errors.required(&at, "");
    }
    one_of(spec.failure_policy.as_deref(), &FAILURE_POLICIES, &at, errors);
    if let Some(kind) = &spec.param_kind {
        validate_param_kind(kind, &path.child("paramKind"), errors);
    }
    let at = path.child("matchConstraints");
    match &spec.match_constraints {
        None => errors.required(&at, ""),
        Some(resources) => {
            validate_match(resources, &at, errors);
            if resources.resource_rules.as_ref().is_none_or(Vec::is_empty) {
                errors.required(&at.child("resourceRules"), "");
            }
        }
    }
    let match_conditions = spec.match_conditions.as_deref().unwrap_or_default();
    validate_conditions(match_conditions, &path.child("matchConditions"), errors);
    let list = path.child("variables");
    for (index, variable) in spec.variables.iter().flatten().enumerate() {
        validate_variable(variable, &list.index(index), errors);
    }
    let validations = spec.validations.as_deref().unwrap_or_default();
    let annotations = spec.audit_annotations.as_deref().unwrap_or_default();
    if validations.is_empty() && annotations.is_empty() {
        let detail = "validations or auditAnnotations must contain at least one item";
        errors.required(&path.child("validations"), detail);
        errors.required(&path.child("auditAnnotations"), detail);
        return;
    }
    let list = path.child("validations");
    for (index, validation) in validations.iter().enumerate() {
        validate_validation(validation, &list.index(index), errors);
    }
    validate_annotations(name, annotations, &path.child("auditAnnotations"), errors);
}

fn validate_param_kind(kind: &ParamKind, path: &Path<'_>, errors: &mut Errors) {
    let api_version = kind.api_version.as_deref().unwrap_or_default();
    let at = path.child("apiVersion");
    if api_version.is_empty() {
        errors.required(&at, "");
    } else if api_version.matches('/').count() > 1 {
        let detail = format!("unexpected GroupVersion string: {api_version}");
        errors.invalid(&at, api_version, detail);
    } else {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let messages = names::dns1123_subdomain(group);
        if !group.is_empty() && !messages.is_empty() {
            errors.invalid(&at, group, messages.join(","));
        }
        let messages = names::dns1035_label(version);
        if version.is_empty() {
            errors.invalid(&at, api_version, "version must be specified");
        } else if !messages.is_empty() {
            errors.invalid(&at, version, messages.join(","));
        }
    }
    let kind = kind.kind.as_deref().unwrap_or_default();
    let messages = names::dns1035_label(&kind.to_lowercase());
    if kind.is_empty() {
        errors.required(&path.child("kind"), "");
    } else if !messages.is_empty() {
        let detail = format!(
            "may have mixed case, but should otherwise match: {}",
            messages.join(",")
        );
        errors.invalid(&path.child("kind"), kind, detail);
    }
}

fn is_identifier(name: &str) -> bool {
    crate::checks::c_identifier(name).is_empty() && !RESERVED.contains(&name)
}

fn validate_variable(variable: &Variable, path: &Path<'_>, errors: &mut Errors) {
    let name = variable.name.as_str();
    if name.trim().is_empty() {
        errors.required(&path.child("name"), "name is not specified");
    } else if !is_identifier(name) {
        errors.invalid(&path.child("name"), name, "name is not a valid CEL identifier");
    }
    if variable.expression.trim().is_empty() {
        errors.required(&path.child("expression"), "expression is not specified");
    }
}

fn validate_validation(validation: &Validation, path: &Path<'_>, errors: &mut Errors) {
    if validation.expression.trim().is_empty() {
        errors.required(&path.child("expression"), "expression is not specified");
    }
    let blank = |text: &str| !text.is_empty() && text.trim().is_empty();
    let expression = validation.message_expression.as_deref().unwrap_or_default();
    if blank(expression) {
        errors.invalid(
            &path.child("messageExpression"),
            expression,
            "must be non-empty if specified",
        );
    }
    let message = validation.message.as_deref().unwrap_or_default();
    if blank(message) {
        errors.invalid(
            &path.child("message"),
            message,
            "message must be non-empty if specified",
        );
    } else if message.trim().contains(['\n', '\r']) {
        errors.invalid(&path.child("message"), message, "message must not contain line breaks");
    }
    one_of(validation.reason.as_deref(), &REASONS, &path.child("reason"), errors);
}

fn validate_annotations(policy: &str, annotations: &[AuditAnnotation], path: &Path<'_>, errors: &mut Errors) {
    if annotations.len() > MAX_ANNOTATIONS {
        let detail = format!("must not have more than {MAX_ANNOTATIONS} auditAnnotations");
        errors.invalid(path, shown(&annotations), detail);
    }
    for (index, annotation) in annotations.iter().enumerate() {
        let at = path.index(index);
        let key = annotation.key.as_str();
        if policy.is_empty() {
            errors.invalid(&at.child("key"), key, "requires metadata.name be non-empty");
        } else {
            let whole = format!("{policy}/{key}");
            errors.invalid_each(&at.child("key"), &whole, names::qualified_name(&whole));
        }
        let expression = annotation.value_expression.trim();
        if expression.is_empty() {
            errors.required(&at.child("valueExpression"), "valueExpression is not specified");
        } else if expression.len() > MAX_ANNOTATION_EXPRESSION {
            let detail = format!("must not exceed {MAX_ANNOTATION_EXPRESSION} bytes in length");
            errors.required(&at.child("valueExpression"), detail);
        }
        if annotations[..index].iter().any(|other| other.key == key) {
            errors.duplicate(&at.child("key"), key);
        }
    }
}
