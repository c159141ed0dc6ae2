//! Nobody gives away what they do not have: who writes a role must hold its rules already, who writes a binding those of
//! its role, unless they have the verb `escalate` or `bind` on the role.
//! <https://kubernetes.io/docs/reference/access-authn-authz/rbac/#privilege-escalation-prevention-and-bootstrapping>

use super::rule::{self, Rule, full_authority, quote_list};
use super::{Attempt, AttemptedResource, Authorizer as _};
use crate::admission::{Attributes, Operation, Plugin, World};
use crate::authn::{Identity, MASTERS};
use crate::kinds::Object;
use async_trait::async_trait;
use catamaran_api::field::quote;
use catamaran_api::{GroupResource, Status};
use k8s_openapi::Metadata;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::any::Any;

const GROUP: &str = "rbac.authorization.k8s.io";

/// The admission step.
pub(crate) struct Escalation;

#[async_trait]
impl Plugin for Escalation {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        let write = matches!(attributes.operation, Operation::Create | Operation::Update);
        write && attributes.target.resource.info.group == GROUP && !attributes.caller.identity.is_in(MASTERS)
    }

    async fn validate(
        &self,
        world: &World<'_>,
        attributes: &Attributes<'_>,
        object: Option<&dyn Object>,
    ) -> Result<(), Status> {
        let Some(object) = object else { return Ok(()) };
        let check = Check { world, attributes };
        let any: &dyn Any = object;
        if let Some(role) = any.downcast_ref::<Role>() {
            check.role(role, role.rules.as_deref(), false)
        } else if let Some(role) = any.downcast_ref::<ClusterRole>() {
            let gathered = |role: &ClusterRole| role.aggregation_rule.is_some();
            check.role(
                role,
                role.rules.as_deref(),
                gathered(role) || check.old().is_some_and(gathered),
            )
        } else if let Some(binding) = any.downcast_ref::<RoleBinding>() {
            check.binding(binding, &binding.role_ref)
        } else if let Some(binding) = any.downcast_ref::<ClusterRoleBinding>() {
            check.binding(binding, &binding.role_ref)
        } else {
            Ok(())
        }
    }
}

struct Check<'a> {
    world: &'a World<'a>,
    attributes: &'a Attributes<'a>,
}

impl Check<'_> {
    fn old<T: 'static>(&self) -> Option<&T> {
        let any: &dyn Any = self.attributes.old?;
        any.downcast_ref()
    }

    fn namespace(&self) -> &str {
        self.attributes.target.namespace.as_deref().unwrap_or_default()
    }

    fn identity(&self) -> &Identity {
        &self.attributes.caller.identity
    }

    fn role<T>(&self, role: &T, rules: Option<&[PolicyRule]>, gathers: bool) -> Result<(), Status>
    where
        T: Metadata<Ty = ObjectMeta> + Clone + PartialEq + 'static,
    {
        let target = &self.attributes.target;
        let plural = &*target.resource.info.plural;
        if self.only_collects(role) || self.may("escalate", plural, &target.name) {
            return Ok(());
        }
        let rules: Vec<Rule> = rules.unwrap_or_default().iter().cloned().map(Rule::from).collect();
        // Who gathers rules by labels may come to hold any.
        if gathers {
            self.confirm(role.metadata(), &full_authority())?;
        }
        self.confirm(role.metadata(), &rules)
    }

    fn binding<T>(&self, binding: &T, role: &RoleRef) -> Result<(), Status>
    where
        T: Metadata<Ty = ObjectMeta> + Clone + PartialEq + 'static,
    {
        let plural = if role.kind == "Role" { "roles" } else { "clusterroles" };
        if self.only_collects(binding) || self.may("bind", plural, &role.name) {
            return Ok(());
        }
        let rules = self.world.registry.authorizer.rbac().rules_of(role, self.namespace());
        let unknown = || Status::not_found(&GroupResource::from_static(GROUP, plural), &role.name);
        self.confirm(binding.metadata(), &rules.ok_or_else(unknown)?)
    }

    /// Does the update only change what the collector of garbage needs to?
    fn only_collects<T>(&self, new: &T) -> bool
    where
        T: Metadata<Ty = ObjectMeta> + Clone + PartialEq + 'static,
    {
        self.old::<T>().is_some_and(|old| {
            let (mut new, old) = (new.clone(), old.metadata());
            let meta = new.metadata_mut();
            meta.owner_references.clone_from(&old.owner_references);
            meta.finalizers.clone_from(&old.finalizers);
            meta.managed_fields.clone_from(&old.managed_fields);
            meta.resource_version.clone_from(&old.resource_version);
            self.old::<T>() == Some(&new)
        })
    }

    fn may(&self, verb: &str, plural: &str, name: &str) -> bool {
        let attempt = Attempt {
            verb,
            resource: Some(AttemptedResource {
                group: GROUP,
                version: "v1",
                plural,
                namespace: self.namespace(),
                name,
                ..AttemptedResource::default()
            }),
            ..Attempt::new(self.identity())
        };
        self.world.registry.authorizer.decide(&attempt).is_allowed()
    }

    fn confirm(&self, meta: &ObjectMeta, wanted: &[Rule]) -> Result<(), Status> {
        let identity = self.identity();
        let (own, errors) = self
            .world
            .registry
            .authorizer
            .rbac()
            .rules_for(identity, self.namespace());
        let missing = rule::missing(&own, wanted);
        if missing.is_empty() {
            return Ok(());
        }
        let mut why = format!(
            "user {} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
            quote(&identity.user),
            quote_list(&identity.groups),
            missing.join("\n")
        );
        if !errors.is_empty() {
            why.push_str(&format!("; resolution errors: [{}]", errors.join(", ")));
        }
        let resource = &self.attributes.target.resource.group_resource;
        Err(Status::forbidden(
            resource,
            meta.name.as_deref().unwrap_or_default(),
            why,
        ))
    }
}
