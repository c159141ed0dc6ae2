//! Which requests a webhook or a policy is about: rules, and selectors of namespaces and objects.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#matching-requests-rules>

use super::{Attributes, Operation, World};
use crate::kinds::Object;
use crate::registry::resource::Resource;
use catamaran_api::selector::Selector;
use catamaran_api::{GroupResource, Path, Status};
use k8s_openapi::api::admissionregistration::v1::{MatchResources, NamedRuleWithOperations, RuleWithOperations};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use std::sync::Arc;

/// A rule, ready to be compared.
#[derive(Clone, Debug, Default)]
pub(super) struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    /// `pods`, `pods/*`, `*/scale`.
    resources: Vec<String>,
    scope: Option<String>,
    /// Only objects of these names; empty: all.
    names: Vec<String>,
}

/// Everything that has to hold.
#[derive(Clone, Debug)]
pub(super) struct Criteria {
    rules: Vec<Rule>,
    excluded: Vec<Rule>,
    /// Other versions of the same objects count too.
    equivalent: bool,
    namespaces: Selector,
    objects: Selector,
    /// No rules mean all requests (bindings), not none (webhooks).
    all_without_rules: bool,
}

/// A request as rules see it.
struct Place<'a> {
    resource: &'a Resource,
    subresource: &'a str,
    operation: Operation,
    /// That of a namespace is its own name.
    namespace: &'a str,
    name: &'a str,
}

const NAMESPACES: GroupResource = GroupResource::from_static("", "namespaces");

impl From<RuleWithOperations> for Rule {
    fn from(rule: RuleWithOperations) -> Self {
        Rule {
            operations: rule.operations.unwrap_or_default(),
            groups: rule.api_groups.unwrap_or_default(),
            versions: rule.api_versions.unwrap_or_default(),
            resources: rule.resources.unwrap_or_default(),
            scope: rule.scope,
            names: Vec::new(),
        }
    }
}

impl From<NamedRuleWithOperations> for Rule {
    fn from(rule: NamedRuleWithOperations) -> Self {
        Rule {
            operations: rule.operations.unwrap_or_default(),
            groups: rule.api_groups.unwrap_or_default(),
            versions: rule.api_versions.unwrap_or_default(),
            resources: rule.resources.unwrap_or_default(),
            scope: rule.scope,
            names: rule.resource_names.unwrap_or_default(),
        }
    }
}

impl Rule {
    fn matches(&self, place: &Place<'_>) -> bool {
        let info = &place.resource.info;
        let listed = |list: &[String], own: &str| list.iter().any(|item| item == "*" || item == own);
        self.in_scope(place)
            && listed(&self.operations, place.operation.as_str())
            && listed(&self.groups, &info.group)
            && listed(&self.versions, &info.version)
            && self.resources.iter().any(|pattern| {
                let (plural, subresource) = pattern.split_once('/').unwrap_or((pattern, ""));
                (plural == "*" || plural == info.plural) && (subresource == "*" || subresource == place.subresource)
            })
            && (self.names.is_empty() || self.names.iter().any(|name| name == place.name))
    }

    fn in_scope(&self, place: &Place<'_>) -> bool {
        let clusterwide = place.namespace.is_empty() || place.resource.group_resource == NAMESPACES;
        match self.scope.as_deref() {
            None | Some("*") => true,
            Some("Namespaced") => !clusterwide,
            Some("Cluster") => clusterwide,
            Some(_) => false,
        }
    }
}

impl Criteria {
    /// Of a webhook. What validation would have refused matches nothing.
    pub(super) fn of_webhook(
        rules: Option<Vec<RuleWithOperations>>,
        match_policy: Option<&str>,
        namespaces: Option<&LabelSelector>,
        objects: Option<&LabelSelector>,
    ) -> Self {
        Criteria {
            rules: rules.into_iter().flatten().map(Rule::from).collect(),
            excluded: Vec::new(),
            equivalent: match_policy != Some("Exact"),
            namespaces: selector(namespaces),
            objects: selector(objects),
            all_without_rules: false,
        }
    }

    /// Of a policy or a binding. A binding without any matches what its policy matches.
    pub(super) fn of_policy(resources: Option<MatchResources>) -> Self {
        let resources = resources.unwrap_or_default();
        let rules = |rules: Option<Vec<NamedRuleWithOperations>>| rules.into_iter().flatten().map(Rule::from).collect();
        Criteria {
            equivalent: resources.match_policy.as_deref() != Some("Exact"),
            namespaces: selector(resources.namespace_selector.as_ref()),
            objects: selector(resources.object_selector.as_ref()),
            rules: rules(resources.resource_rules),
            excluded: rules(resources.exclude_resource_rules),
            all_without_rules: true,
        }
    }

    /// The resource, perhaps in another version, by which a request matches.
    ///
    /// # Errors
    /// If the request matches but its namespace is not there.
    pub(super) fn find(
        &self,
        world: &World<'_>,
        attributes: &Attributes<'_>,
        object: Option<&dyn Object>,
    ) -> Result<Option<Arc<Resource>>, Status> {
        if !self.selects_object(attributes, object) {
            return Ok(None);
        }
        let place = Place::of(attributes, object);
        if self.by_rules(world, &self.excluded, attributes, &place).is_some() {
            return Ok(None);
        }
        let found = if self.rules.is_empty() && self.all_without_rules {
            Some(Arc::clone(&attributes.target.resource))
        } else {
            self.by_rules(world, &self.rules, attributes, &place)
        };
        match found {
            Some(resource) if self.selects_namespace(world, attributes, object)? => Ok(Some(resource)),
            _ => Ok(None),
        }
    }

    fn by_rules(
        &self,
        world: &World<'_>,
        rules: &[Rule],
        attributes: &Attributes<'_>,
        place: &Place<'_>,
    ) -> Option<Arc<Resource>> {
        let own = &attributes.target.resource;
        if rules.iter().any(|rule| rule.matches(place)) {
            return Some(Arc::clone(own));
        }
        if !self.equivalent || rules.is_empty() {
            return None;
        }
        let versions = world.registry.versions(own);
        for rule in rules {
            for other in versions.iter().filter(|other| !Arc::ptr_eq(other, own)) {
                let place = Place {
                    resource: other,
                    ..*place
                };
                if rule.matches(&place) {
                    return Some(Arc::clone(other));
                }
            }
        }
        None
    }

    fn selects_object(&self, attributes: &Attributes<'_>, object: Option<&dyn Object>) -> bool {
        let selects = |object: &dyn Object| self.objects.matches(&object.meta().labels);
        self.objects.is_everything() || object.is_some_and(selects) || attributes.old.is_some_and(selects)
    }

    /// Objects without a namespace are never exempt by one.
    fn selects_namespace(
        &self,
        world: &World<'_>,
        attributes: &Attributes<'_>,
        object: Option<&dyn Object>,
    ) -> Result<bool, Status> {
        if self.namespaces.is_everything() {
            return Ok(true);
        }
        let target = attributes.target;
        let is_namespace = target.resource.group_resource == NAMESPACES;
        let writes = matches!(attributes.operation, Operation::Create | Operation::Update);
        if is_namespace && attributes.subresource.is_empty() && writes {
            return Ok(object.is_some_and(|object| self.namespaces.matches(&object.meta().labels)));
        }
        let name = if is_namespace {
            Some(target.name.as_str())
        } else {
            target.namespace.as_deref()
        };
        let Some(name) = name else { return Ok(true) };
        let record = world.get("v1", "namespaces", None, name);
        let record = record.ok_or_else(|| Status::not_found(&NAMESPACES, name))?;
        Ok(self.namespaces.matches(&record.facts.as_ref()))
    }
}

impl<'a> Place<'a> {
    fn of(attributes: &'a Attributes<'_>, object: Option<&'a dyn Object>) -> Self {
        let target = attributes.target;
        let own_name = object.and_then(|object| object.meta().name.as_deref());
        let name = match target.name.as_str() {
            "" => own_name.unwrap_or_default(),
            name => name,
        };
        Place {
            resource: &target.resource,
            subresource: attributes.subresource,
            operation: attributes.operation,
            namespace: if target.resource.group_resource == NAMESPACES {
                &target.name
            } else {
                target.namespace.as_deref().unwrap_or_default()
            },
            name,
        }
    }
}

fn selector(selector: Option<&LabelSelector>) -> Selector {
    match selector {
        None => Selector::everything(),
        Some(selector) => {
            Selector::from_object(selector, &Path::new("selector")).unwrap_or_else(|_| Selector::nothing())
        }
    }
}

/// Configurations of admission are never stopped by what they configure.
pub(super) fn is_exempt(attributes: &Attributes<'_>) -> bool {
    attributes.target.resource.info.group == "admissionregistration.k8s.io"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds;
    use serde_json::{Value, json};

    fn resource(plural: &str) -> Resource {
        let kind = kinds::ALL
            .iter()
            .find(|kind| kind.info().plural == plural)
            .expect("a kind");
        Resource::builtin(*kind)
    }

    fn matches(rule: Value, plural: &str, subresource: &str, operation: Operation, namespace: &str) -> bool {
        let rule: NamedRuleWithOperations = serde_json::from_value(rule).unwrap();
        Rule::from(rule).matches(&Place {
            resource: &resource(plural),
            subresource,
            operation,
            namespace,
            name: "a",
        })
    }

    #[test]
    fn rules_match_by_every_part() {
        let rule = |resources: Value| json!({"operations": ["CREATE", "CONNECT"], "apiGroups": [""], "apiVersions": ["v1"], "resources": resources});
        let create = Operation::Create;
        for (resources, plural, subresource, operation, expected) in [
            (json!(["pods"]), "pods", "", create, true),
            (json!(["pods"]), "pods", "status", create, false),
            (json!(["pods"]), "pods", "", Operation::Update, false),
            (json!(["pods/*"]), "pods", "exec", Operation::Connect, true),
            (json!(["pods/*"]), "pods", "", create, true),
            (json!(["*"]), "secrets", "", create, true),
            (json!(["*"]), "pods", "status", create, false),
            (json!(["*/*"]), "pods", "status", create, true),
            (json!(["*/status"]), "pods", "status", create, true),
            (json!(["*/status"]), "pods", "exec", create, false),
            (json!(["*/*"]), "leases", "", create, false),
        ] {
            let found = matches(rule(resources.clone()), plural, subresource, operation, "ns");
            assert_eq!(found, expected, "{resources} {plural} {subresource}");
        }
    }

    #[test]
    fn rules_match_by_scope_and_name() {
        let all = |scope: &str, names: Value| json!({"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"], "scope": scope, "resourceNames": names});
        let delete = Operation::Delete;
        for (scope, plural, namespace, expected) in [
            ("Namespaced", "pods", "ns", true),
            ("Namespaced", "nodes", "", false),
            ("Namespaced", "namespaces", "ns", false),
            ("Cluster", "namespaces", "ns", true),
            ("Cluster", "pods", "ns", false),
            ("*", "pods", "ns", true),
        ] {
            assert_eq!(
                matches(all(scope, json!([])), plural, "", delete, namespace),
                expected,
                "{scope} {plural}"
            );
        }
        assert!(matches(all("*", json!(["a"])), "pods", "", delete, "ns"));
        assert!(!matches(all("*", json!(["b"])), "pods", "", delete, "ns"));
    }
}
