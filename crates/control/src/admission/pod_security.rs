//! What pods may ask of their nodes, by the labels of their namespace.
//!
//! Pods that violate what is enforced are refused. Violations of what is only warned about become warnings, also for the
//! templates of workloads, whose pods would be refused later and out of sight. Who raises what a namespace enforces is told
//! which of its pods would not come back.
//! <https://kubernetes.io/docs/concepts/security/pod-security-admission/>

mod checks;
mod configuration;
mod policy;
mod templates;

use super::{Attributes, Operation, Plugin, World, decoded, typed};
use crate::kinds::Object;
use crate::watch_cache::Record;
use async_trait::async_trait;
use catamaran_api::selector::LabelSource as _;
use catamaran_api::{Errors, Status};
use checks::{Subject, Violation, in_detail, in_short, violations};
use configuration::Exemptions;
use k8s_openapi::api::core::v1::{Namespace, Pod, PodSpec};
use policy::{Level, LevelVersion, Policy};
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// At most this many pods of a namespace are looked at when what it enforces is raised.
const MOST_PODS: usize = 3000;
/// Ways below a pod that do not change its specification.
const HARMLESS: &[&str] = &[
    "attach",
    "binding",
    "eviction",
    "exec",
    "log",
    "portforward",
    "proxy",
    "status",
];

const EXEMPT: &str = "pod-security.kubernetes.io/exempt";

pub(super) struct PodSecurity {
    defaults: Policy,
    exemptions: Exemptions,
}

impl Default for PodSecurity {
    fn default() -> Self {
        PodSecurity {
            defaults: Policy::PRIVILEGED,
            exemptions: Exemptions::default(),
        }
    }
}

#[async_trait]
impl Plugin for PodSecurity {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        if !matches!(attributes.operation, Operation::Create | Operation::Update) {
            return false;
        }
        if attributes.concerns("", "pods") {
            return !HARMLESS.contains(&attributes.subresource);
        }
        attributes.subresource.is_empty()
            && (attributes.concerns("", "namespaces") || templates::has_template(attributes))
    }

    async fn validate(
        &self,
        world: &World<'_>,
        attributes: &Attributes<'_>,
        object: Option<&dyn Object>,
    ) -> Result<(), Status> {
        let Some(object) = object else { return Ok(()) };
        if let Some(namespace) = typed::<Namespace>(object) {
            return self.validate_namespace(world, attributes, namespace);
        }
        if let Some(reason) = self.exempt(attributes) {
            attributes.annotate(EXEMPT, reason);
            return Ok(());
        }
        let Some(policy) = self.policy_of(world, attributes) else {
            return Ok(());
        };
        if let Some(pod) = typed::<Pod>(object) {
            return self.validate_pod(attributes, &policy, pod);
        }
        if (policy.warn.level, policy.audit.level) != (Level::Privileged, Level::Privileged)
            && let Some(template) = templates::template(object)
        {
            let (meta, spec) = (template.metadata.unwrap_or_default(), template.spec.unwrap_or_default());
            if self.exempts_class(&spec) {
                attributes.annotate(EXEMPT, "runtimeClass");
                return Ok(());
            }
            notice(attributes, &policy, &meta.annotations.unwrap_or_default(), &spec);
        }
        Ok(())
    }
}

impl PodSecurity {
    /// What a `PodSecurityConfiguration` says.
    pub(super) fn configured(value: Value) -> Result<Self, String> {
        let (defaults, exemptions) = configuration::read(value)?;
        Ok(PodSecurity { defaults, exemptions })
    }

    #[cfg(test)]
    pub(super) fn enforced(&self) -> String {
        self.defaults.enforce.to_string()
    }

    /// Why nothing is demanded of a request, before it is looked at.
    fn exempt(&self, attributes: &Attributes<'_>) -> Option<&'static str> {
        let has = |names: &[String], name: &str| !name.is_empty() && names.iter().any(|exempt| exempt == name);
        let namespace = attributes.target.namespace.as_deref().unwrap_or_default();
        if has(&self.exemptions.namespaces, namespace) {
            return Some("namespace");
        }
        has(&self.exemptions.usernames, &attributes.caller.identity.user).then_some("user")
    }

    fn exempts_class(&self, spec: &PodSpec) -> bool {
        self.exemptions.exempts_class(spec)
    }

    /// What to say of a namespace that is exempt and demands something all the same.
    fn ignored(&self, name: &str, policy: &Policy, namespace: &Namespace) -> Option<String> {
        if policy.is_privileged() || *policy == self.defaults {
            return None;
        }
        let labels = &namespace.metadata.labels;
        let modes = [
            ("enforce", policy.enforce, policy::ENFORCE, policy::ENFORCE_VERSION),
            ("audit", policy.audit, policy::AUDIT, policy::AUDIT_VERSION),
            ("warn", policy.warn, policy::WARN, policy::WARN_VERSION),
        ];
        let said = modes.into_iter().filter(|(_, demand, level, version)| {
            let is_set = labels.label(level).is_some() || labels.label(version).is_some();
            demand.level != Level::Privileged && is_set
        });
        let said: Vec<String> = said.map(|(mode, demand, ..)| format!("{mode}={demand}")).collect();
        Some(format!(
            "namespace {name:?} is exempt from Pod Security, and the policy ({}) will be ignored",
            said.join(", ")
        ))
    }

    /// What the request's namespace demands; `None` if nothing.
    fn policy_of(&self, world: &World<'_>, attributes: &Attributes<'_>) -> Option<Policy> {
        let namespace = attributes.target.namespace.as_deref()?;
        let record = world.get("v1", "namespaces", None, namespace)?;
        let mut errors = Errors::new();
        let policy = Policy::of_labels(&record.facts.as_ref(), &self.defaults, &mut errors);
        if !errors.is_empty() {
            attributes.annotate(
                "pod-security.kubernetes.io/error",
                format!("Failed to parse policy: {}", errors.message()),
            );
        } else if policy.is_privileged() {
            attributes.annotate("pod-security.kubernetes.io/enforce-policy", "privileged:latest");
            return None;
        }
        Some(policy)
    }

    fn validate_pod(&self, attributes: &Attributes<'_>, policy: &Policy, pod: &Pod) -> Result<(), Status> {
        let old = attributes.old.and_then(typed::<Pod>).and_then(|pod| pod.spec.as_ref());
        let Some(spec) = &pod.spec else { return Ok(()) };
        if attributes.operation == Operation::Update && old.is_some_and(|old| !matters(spec, old)) {
            return Ok(());
        }
        if self.exempts_class(spec) {
            attributes.annotate(EXEMPT, "runtimeClass");
            return Ok(());
        }
        let none = BTreeMap::new();
        let annotations = pod.metadata.annotations.as_ref().unwrap_or(&none);
        let found = violations(policy.enforce, &Subject { annotations, spec });
        attributes.annotate("pod-security.kubernetes.io/enforce-policy", policy.enforce.to_string());
        if found.is_empty() {
            notice(attributes, policy, annotations, spec);
            return Ok(());
        }
        audit(attributes, policy, annotations, spec);
        let why = format!("violates PodSecurity \"{}\": {}", policy.enforce, in_detail(&found));
        Err(attributes.forbidden(Some(pod), why))
    }

    fn validate_namespace(
        &self,
        world: &World<'_>,
        attributes: &Attributes<'_>,
        namespace: &Namespace,
    ) -> Result<(), Status> {
        let mut errors = Errors::new();
        let policy = Policy::of_labels(&namespace.metadata.labels, &self.defaults, &mut errors);
        let old = attributes.old.and_then(typed::<Namespace>);
        let mut old_errors = Errors::new();
        let old_policy = old.map(|old| Policy::of_labels(&old.metadata.labels, &self.defaults, &mut old_errors));
        let said = |errors: &Errors| errors.message();
        if !errors.is_empty() && (old.is_none() || said(&errors) != said(&old_errors)) {
            let kind = &attributes.target.resource.group_kind;
            return Err(Status::invalid(kind, attributes.name(Some(namespace)), &errors));
        }
        let name = namespace.metadata.name.as_deref().unwrap_or_default();
        let exempt = self.exemptions.namespaces.iter().any(|exempt| exempt == name);
        let ignored = || self.ignored(name, &policy, namespace).filter(|_| exempt);
        let Some(old) = old_policy else {
            ignored().into_iter().for_each(|warning| attributes.warn(warning));
            return Ok(());
        };
        let (new, old) = (policy.enforce, old.enforce);
        let relaxed = new.version == old.version && new.level <= old.level;
        if new == old || new.level == Level::Privileged || relaxed {
            return Ok(());
        }
        if exempt {
            ignored().into_iter().for_each(|warning| attributes.warn(warning));
            return Ok(());
        }
        let pods = world.list("v1", "pods", Some(name));
        for warning in of_existing(name, new, &pods, &self.exemptions) {
            attributes.warn(warning);
        }
        Ok(())
    }
}

/// Tells what is not enforced.
fn notice(attributes: &Attributes<'_>, policy: &Policy, annotations: &BTreeMap<String, String>, spec: &PodSpec) {
    audit(attributes, policy, annotations, spec);
    let found = violations(policy.warn, &Subject { annotations, spec });
    if !found.is_empty() {
        attributes.warn(would_violate(policy.warn, &found));
    }
}

fn audit(attributes: &Attributes<'_>, policy: &Policy, annotations: &BTreeMap<String, String>, spec: &PodSpec) {
    let found = violations(policy.audit, &Subject { annotations, spec });
    if !found.is_empty() {
        let text = would_violate(policy.audit, &found);
        attributes.annotate("pod-security.kubernetes.io/audit-violations", text);
    }
}

fn would_violate(policy: LevelVersion, found: &[Violation]) -> String {
    format!("would violate PodSecurity \"{policy}\": {}", in_detail(found))
}

/// Can an update make a difference? Only other images, and other containers, can.
fn matters(new: &PodSpec, old: &PodSpec) -> bool {
    let images = |spec: &PodSpec| -> Vec<Option<String>> {
        let init = spec.init_containers.iter().flatten();
        init.chain(&spec.containers)
            .map(|container| container.image.clone())
            .collect()
    };
    let count = |spec: &PodSpec| spec.containers.len();
    let ephemeral = |spec: &PodSpec| -> Vec<(String, Option<String>)> {
        let containers = spec.ephemeral_containers.iter().flatten();
        containers
            .map(|container| (container.name.clone(), container.image.clone()))
            .collect()
    };
    let old_ephemeral = ephemeral(old);
    count(new) != count(old)
        || images(new) != images(old)
        || ephemeral(new)
            .iter()
            .any(|container| !old_ephemeral.contains(container))
}

/// Which pods of a namespace violate what it is about to enforce: one warning per sort of violation.
fn of_existing(namespace: &str, policy: LevelVersion, pods: &[Arc<Record>], exemptions: &Exemptions) -> Vec<String> {
    let mut found: BTreeMap<String, (String, usize)> = BTreeMap::new();
    let mut first = Vec::new();
    let mut same = Vec::new();
    let mut owners = HashSet::new();
    for pod in pods.iter().filter_map(|record| decoded::<Pod>(record).ok()) {
        let references = pod.metadata.owner_references.as_deref().unwrap_or_default();
        match references.iter().find(|owner| owner.controller == Some(true)) {
            // One of each owner, before their brothers.
            Some(owner) if !owners.insert(owner.uid.clone()) => same.push(pod),
            _ => first.push(pod),
        }
    }
    first.append(&mut same);
    let all = first.len();
    first.truncate(MOST_PODS);
    let none = BTreeMap::new();
    for pod in &first {
        let Some(spec) = &pod.spec else { continue };
        if exemptions.exempts_class(spec) {
            continue;
        }
        let annotations = pod.metadata.annotations.as_ref().unwrap_or(&none);
        let violations = violations(policy, &Subject { annotations, spec });
        if violations.is_empty() {
            continue;
        }
        let name = pod.metadata.name.clone().unwrap_or_default();
        let (named, count) = found.entry(in_short(&violations)).or_insert_with(|| (name.clone(), 0));
        *count += 1;
        if name < *named {
            *named = name;
        }
    }
    let mut warnings = Vec::new();
    if first.len() < all {
        warnings.push(format!(
            "new PodSecurity enforce level only checked against the first {} of {all} existing pods",
            first.len()
        ));
    }
    if !found.is_empty() {
        warnings.push(format!(
            "existing pods in namespace {namespace:?} violate the new PodSecurity enforce level \"{policy}\""
        ));
    }
    let mut each: Vec<String> = found
        .into_iter()
        .map(|(violation, (name, count))| match count {
            1 => format!("{name}: {violation}"),
            2 => format!("{name} (and 1 other pod): {violation}"),
            more => format!("{name} (and {} other pods): {violation}", more - 1),
        })
        .collect();
    each.sort();
    warnings.extend(each);
    warnings
}

#[cfg(test)]
mod tests;
