//! Expressions are refused when they are written, not when they are needed.

use super::super::expressions::{Expression, conditions, webhook_env};
use super::super::{Attributes, Operation, Plugin, World, typed};
use super::compiled::compile;
use crate::kinds::Object;
use async_trait::async_trait;
use catamaran_api::{Errors, Path, Status};
use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MutatingWebhookConfiguration, ValidatingAdmissionPolicy, ValidatingAdmissionPolicySpec,
    ValidatingWebhookConfiguration,
};

pub(crate) struct Expressions;

#[async_trait]
impl Plugin for Expressions {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.target.resource.info.group == "admissionregistration.k8s.io"
            && attributes.subresource.is_empty()
            && matches!(attributes.operation, Operation::Create | Operation::Update)
    }

    async fn validate(
        &self,
        _: &World<'_>,
        attributes: &Attributes<'_>,
        object: Option<&dyn Object>,
    ) -> Result<(), Status> {
        let Some(object) = object else { return Ok(()) };
        let mut errors = Errors::new();
        if let Some(policy) = typed::<ValidatingAdmissionPolicy>(object) {
            let old = attributes.old.and_then(typed::<ValidatingAdmissionPolicy>);
            // What was accepted once stays.
            if let Some(spec) = policy
                .spec
                .as_ref()
                .filter(|spec| old.and_then(|old| old.spec.as_ref()) != Some(*spec))
            {
                of_policy(spec, &mut errors);
            }
        } else if let Some(configuration) = typed::<MutatingWebhookConfiguration>(object) {
            let webhooks = configuration.webhooks.iter().flatten();
            of_webhooks(webhooks.map(|webhook| webhook.match_conditions.as_ref()), &mut errors);
        } else if let Some(configuration) = typed::<ValidatingWebhookConfiguration>(object) {
            let webhooks = configuration.webhooks.iter().flatten();
            of_webhooks(webhooks.map(|webhook| webhook.match_conditions.as_ref()), &mut errors);
        }
        if errors.is_empty() {
            return Ok(());
        }
        let kind = &attributes.target.resource.group_kind;
        Err(Status::invalid(kind, attributes.name(Some(object)), &errors))
    }
}

fn of_webhooks<'a>(webhooks: impl Iterator<Item = Option<&'a Vec<MatchCondition>>>, errors: &mut Errors) {
    let env = webhook_env();
    let path = Path::new("webhooks");
    for (index, own) in webhooks.enumerate() {
        let compiled = conditions(own, &env);
        report_each(
            compiled.iter(),
            &path.index(index).child("matchConditions"),
            "expression",
            errors,
        );
    }
}

fn of_policy(spec: &ValidatingAdmissionPolicySpec, errors: &mut Errors) {
    let compiled = compile(spec);
    let path = Path::new("spec");
    report_each(
        compiled.conditions.iter(),
        &path.child("matchConditions"),
        "expression",
        errors,
    );
    let variables = compiled.variables.iter().map(|(_, expression)| expression);
    report_each(variables, &path.child("variables"), "expression", errors);
    let validations = path.child("validations");
    for (index, validation) in compiled.validations.iter().enumerate() {
        let at = validations.index(index);
        report(&validation.expression, &at.child("expression"), errors);
        if let Some(expression) = &validation.message_expression {
            report(expression, &at.child("messageExpression"), errors);
        }
    }
    let annotations = compiled.annotations.iter().map(|(_, expression)| expression);
    report_each(annotations, &path.child("auditAnnotations"), "valueExpression", errors);
}

fn report_each<'a>(
    expressions: impl Iterator<Item = &'a Expression>,
    path: &Path<'_>,
    field: &'static str,
    errors: &mut Errors,
) {
    for (index, expression) in expressions.enumerate() {
        report(expression, &path.index(index).child(field), errors);
    }
}

fn report(expression: &Expression, path: &Path<'_>, errors: &mut Errors) {
    if let Err(why) = &expression.program
        && !expression.text.trim().is_empty()
    {
        errors.invalid(path, expression.text.as_str(), why.clone());
    }
}
