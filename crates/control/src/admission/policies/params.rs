//! The objects with a policy's parameters that a binding chooses.

use super::super::{Attributes, World};
use super::compiled::{Binding, Policy};
use crate::registry::tree;
use catamaran_api::Path;
use catamaran_api::selector::Selector;
use serde_json::Value;

/// One set of parameters for each time the policy is to be evaluated. `Null` where it has none; no set at all if the chosen
/// objects are not there and that is fine.
pub(super) async fn collect(
    world: &World<'_>,
    attributes: &Attributes<'_>,
    policy: &Policy,
    binding: &Binding,
) -> Result<Vec<Value>, String> {
    let (Some((api_version, kind)), Some(wanted)) = (&policy.param_kind, &binding.params) else {
        return Ok(vec![Value::Null]);
    };
    let resource = world
        .registry
        .resource_of_kind(api_version, kind)
        .ok_or_else(|| format!("paramKind kind `{api_version}, Kind={kind}` not known"))?;
    let namespace = match (
        resource.info.namespaced,
        wanted.namespace.as_deref().filter(|name| !name.is_empty()),
    ) {
        (false, Some(_)) => {
            return Err("paramRef.namespace must not be provided for a cluster-scoped `paramKind`".to_owned());
        }
        (false, None) => None,
        (true, Some(namespace)) => Some(namespace),
        (true, None) => Some(
            attributes
                .target
                .namespace
                .as_deref()
                .ok_or("cannot use namespaced paramRef in policy binding that matches cluster-scoped resources")?,
        ),
    };
    let plural = &resource.info.plural;
    let records = match (wanted.name.as_deref().filter(|name| !name.is_empty()), &wanted.selector) {
        (Some(name), _) => world.get(api_version, plural, namespace, name).into_iter().collect(),
        (None, Some(selector)) => {
            let selector =
                Selector::from_object(selector, &Path::new("selector")).map_err(|errors| errors.message())?;
            let mut records = world.list(api_version, plural, namespace);
            records.retain(|record| selector.matches(&record.facts.as_ref()));
            records
        }
        (None, None) => return Err("one of name or selector must be provided".to_owned()),
    };
    if records.is_empty() && wanted.parameter_not_found_action.as_deref() == Some("Deny") {
        return Err("no params found for policy binding with `Deny` parameterNotFoundAction".to_owned());
    }
    let mut params = Vec::with_capacity(records.len());
    for record in records {
        let shown = world.registry.shown_one(&resource, record).await;
        let value = shown
            .and_then(|record| tree(&record))
            .map_err(|status| status.message().to_owned())?;
        params.push(value);
    }
    Ok(params)
}
