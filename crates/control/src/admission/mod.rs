//! It must be so: what the cluster as a whole demands of a request, beyond what its kind demands of the object.
//!
//! ```text
//!   decoded, defaulted ──▶ mutate: every plugin, in order ──▶ prepared, valid for its kind ──▶ validate: every plugin ──▶ store
//! ```
//!
//! Plugins see other objects through [`World`] and never write anything a dry run would have to undo. A plugin says first
//! whether it has anything to do with a request; only then is it called.
//! <https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/>

mod certificates;
mod configuration;
mod derived;
mod expressions;
mod ingress_class;
mod limit_ranger;
mod loose;
mod matching;
mod namespace_lifecycle;
pub(crate) mod node_restriction;
mod pod_security;
mod policies;
mod priority;
mod resource_quota;
mod runtime_class;
mod service_account;
mod storage;
mod toleration_seconds;
mod views;
mod webhooks;

pub use configuration::{Config, Error};
pub(crate) use loose::Loose;
pub(crate) use policies::keep_status as keep_policy_status;

use crate::kinds::Object;
use crate::metrics::Admission;
use crate::registry::{Caller, Registry, Target, WriteOptions};
use crate::watch_cache::Record;
use async_trait::async_trait;
use catamaran_api::Status;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use serde_json::Value;
use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

/// What is being done to the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Update,
    Delete,
    /// A stream or a proxied request is opened.
    Connect,
}

impl Operation {
    /// As reviews and rules have it.
    const fn as_str(self) -> &'static str {
        match self {
            Operation::Create => "CREATE",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
            Operation::Connect => "CONNECT",
        }
    }
}

/// Webhooks that change an object may have to be called once more, and so do the plugins before them.
#[derive(Debug, Default)]
struct Reinvocation {
    /// The second round is under way.
    again: bool,
    wanted: bool,
    webhooks: webhooks::Memory,
}

/// The request that is to be admitted.
pub(crate) struct Attributes<'a> {
    pub(crate) target: &'a Target,
    pub(crate) operation: Operation,
    /// Empty for the object itself.
    pub(crate) subresource: &'a str,
    /// The object as it is; `None` for creations.
    pub(crate) old: Option<&'a dyn Object>,
    pub(crate) dry_run: bool,
    pub(crate) caller: &'a Caller,
    options: &'a WriteOptions,
    /// Of deletions: the options as the client sent them, for webhooks.
    pub(crate) delete_options: Option<Value>,
    reinvocation: Mutex<Reinvocation>,
    /// Texts for `Warning` headers.
    warnings: Mutex<Vec<String>>,
}

impl<'a> Attributes<'a> {
    pub(crate) fn new(
        target: &'a Target,
        operation: Operation,
        old: Option<&'a dyn Object>,
        options: &'a WriteOptions,
    ) -> Self {
        Attributes {
            target,
            operation,
            subresource: options.subresource,
            old,
            dry_run: options.dry_run,
            caller: &options.caller,
            options,
            delete_options: None,
            reinvocation: Mutex::default(),
            warnings: Mutex::default(),
        }
    }

    /// Is it about whole objects of this resource?
    pub(crate) fn is_for(&self, api_version: &str, plural: &str) -> bool {
        let resource = &self.target.resource;
        self.subresource.is_empty() && resource.api_version == api_version && resource.info.plural == plural
    }

    /// Is it about objects of this resource, in whatever version, or about something below them?
    pub(crate) fn concerns(&self, group: &str, plural: &str) -> bool {
        let info = &self.target.resource.info;
        info.group == group && info.plural == plural
    }

    fn is_create_of(&self, api_version: &str, plural: &str) -> bool {
        self.operation == Operation::Create && self.is_for(api_version, plural)
    }

    fn is_write_of(&self, api_version: &str, plural: &str) -> bool {
        matches!(self.operation, Operation::Create | Operation::Update) && self.is_for(api_version, plural)
    }

    /// The name of the object, as errors have it.
    fn name<'n>(&'n self, object: Option<&'n dyn Object>) -> &'n str {
        if !self.target.name.is_empty() {
            return &self.target.name;
        }
        let Some(meta) = object.map(Object::meta) else {
            return "Unknown";
        };
        [&meta.name, &meta.generate_name]
            .into_iter()
            .flatten()
            .find(|name| !name.is_empty())
            .map_or("Unknown", String::as_str)
    }

    /// A refusal, in Kubernetes' words.
    fn forbidden(&self, object: Option<&dyn Object>, why: impl std::fmt::Display) -> Status {
        Status::forbidden(&self.target.resource.group_resource, self.name(object), why)
    }

    /// Tells the client.
    pub(crate) fn warn(&self, text: impl Into<String>) {
        self.warnings.lock().push(text.into());
    }

    /// Tells the audit log.
    pub(crate) fn annotate(&self, key: impl Into<String>, value: impl Into<String>) {
        crate::audit::annotate(key.into(), value.into());
    }

    pub(crate) fn take_warnings(&self) -> Vec<String> {
        std::mem::take(&mut *self.warnings.lock())
    }
}

/// Other objects, as the caches show them.
pub(crate) struct World<'a> {
    pub(crate) registry: &'a Registry,
}

impl World<'_> {
    fn get(&self, api_version: &str, plural: &str, namespace: Option<&str>, name: &str) -> Option<Arc<Record>> {
        self.registry.peek(api_version, plural, namespace, name)
    }

    /// All objects of a resource, or those of one namespace.
    fn list(&self, api_version: &str, plural: &str, namespace: Option<&str>) -> Vec<Arc<Record>> {
        self.registry.peek_all(api_version, plural, namespace)
    }
}

/// The object in a record.
fn decoded<T: serde::de::DeserializeOwned>(record: &Record) -> Result<T, Status> {
    serde_json::from_slice(&record.json()).map_err(Status::internal)
}

/// One demand. See the module for when its methods are called.
#[async_trait]
pub(crate) trait Plugin: Send + Sync {
    /// Has it anything to do with this request? Called for every write, so it must be quick.
    fn handles(&self, attributes: &Attributes<'_>) -> bool;

    /// Changes the object, or refuses it.
    async fn mutate(
        &self,
        _world: &World<'_>,
        _attributes: &Attributes<'_>,
        _object: &mut Box<dyn Object>,
    ) -> Result<(), Status> {
        Ok(())
    }

    /// Refuses the request, seeing the object in its final form; `None` for deletions.
    async fn validate(
        &self,
        _world: &World<'_>,
        _attributes: &Attributes<'_>,
        _object: Option<&dyn Object>,
    ) -> Result<(), Status> {
        Ok(())
    }
}

/// All plugins, in the order they run.
pub(crate) struct Chain {
    plugins: Vec<Entry>,
    metrics: Admission,
    /// Labels of the steps as a whole.
    steps: Labels,
}

/// A plugin, and how it is called where it is measured.
struct Entry {
    plugin: Box<dyn Plugin>,
    /// Kubernetes' name; empty for what has none there.
    name: &'static str,
    /// Has it a part in this step?
    admits: bool,
    validates: bool,
    labels: Labels,
}

impl Entry {
    fn new(name: &'static str, part: Part, plugin: impl Plugin + 'static) -> Self {
        Entry {
            plugin: Box::new(plugin),
            name,
            admits: part != Part::Validates,
            validates: part != Part::Admits,
            labels: Labels::of(name),
        }
    }

    fn unnamed(plugin: impl Plugin + 'static) -> Self {
        Self::new("", Part::Both, plugin)
    }
}

/// The steps in which a plugin is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Admits,
    Validates,
    Both,
}

/// The two steps of admission, as metrics name them.
#[derive(Clone, Copy)]
enum Step {
    Admit,
    Validate,
}

/// Labels by step, operation and outcome, made once.
struct Labels([[[String; 2]; 4]; 2]);

impl Labels {
    fn of(name: &str) -> Self {
        let name = match name {
            "" => String::new(),
            name => format!("name=\"{name}\","),
        };
        let operations = [
            Operation::Create,
            Operation::Update,
            Operation::Delete,
            Operation::Connect,
        ];
        Labels(["admit", "validate"].map(|step| {
            operations.map(|operation| {
                [false, true].map(|rejected| {
                    let operation = operation.as_str();
                    format!("{name}operation=\"{operation}\",rejected=\"{rejected}\",type=\"{step}\"")
                })
            })
        }))
    }

    fn get(&self, step: Step, operation: Operation, rejected: bool) -> &str {
        &self.0[step as usize][operation as usize][usize::from(rejected)]
    }
}

impl Chain {
    /// Those that are wanted; those without a name are no choice.
    ///
    /// # Errors
    /// If a name is wrong, or the configuration cannot be used.
    pub(crate) fn new(config: &Config) -> Result<Self, Error> {
        use Part::{Admits, Both, Validates};
        let settings = configuration::Settings::read(config)?;
        let disabled = settings.disabled;
        let mut plugins = vec![
            Entry::new("NamespaceLifecycle", Admits, namespace_lifecycle::NamespaceLifecycle),
            Entry::new("LimitRanger", Both, limit_ranger::LimitRanger),
            Entry::new("ServiceAccount", Both, service_account::ServiceAccounts),
            Entry::new("NodeRestriction", Admits, node_restriction::NodeRestriction),
            Entry::new("PodSecurity", Validates, settings.pod_security),
            Entry::new("Priority", Both, priority::Priority::default()),
            Entry::new(
                "DefaultTolerationSeconds",
                Admits,
                toleration_seconds::DefaultTolerationSeconds,
            ),
            Entry::new("DefaultStorageClass", Admits, storage::DefaultStorageClass::default()),
            Entry::new("StorageObjectInUseProtection", Admits, storage::ObjectInUseProtection),
            Entry::new("PersistentVolumeClaimResize", Validates, storage::ClaimResize),
            Entry::new("RuntimeClass", Both, runtime_class::RuntimeClasses),
            Entry::new("CertificateApproval", Validates, certificates::Approval),
            Entry::new("CertificateSigning", Validates, certificates::Signing),
            Entry::new(
                "CertificateSubjectRestriction",
                Validates,
                certificates::SubjectRestriction,
            ),
            Entry::new(
                "DefaultIngressClass",
                Admits,
                ingress_class::DefaultIngressClass::default(),
            ),
            Entry::unnamed(crate::authz::escalation::Escalation),
            Entry::unnamed(policies::Expressions),
            Entry::new(
                "MutatingAdmissionWebhook",
                Admits,
                webhooks::MutatingWebhooks::default(),
            ),
            Entry::new(
                "ValidatingAdmissionPolicy",
                Validates,
                policies::ValidatingPolicies::default(),
            ),
            Entry::new(
                "ValidatingAdmissionWebhook",
                Validates,
                webhooks::ValidatingWebhooks::default(),
            ),
            // Behind everything that changes objects: nobody else says who a request is from.
            Entry::unnamed(certificates::Requester),
            Entry::new("ResourceQuota", Validates, resource_quota::ResourceQuotas::default()),
        ];
        plugins.retain(|entry| !disabled.iter().any(|name| name == entry.name));
        Ok(Chain {
            plugins,
            metrics: Admission::default(),
            steps: Labels::of(""),
        })
    }

    pub(crate) fn metrics(&self) -> &Admission {
        &self.metrics
    }

    /// Lets every plugin change the object; twice if a webhook did.
    pub(crate) async fn mutate(
        &self,
        world: &World<'_>,
        attributes: &Attributes<'_>,
        object: &mut Box<dyn Object>,
    ) -> Result<(), Status> {
        let start = Instant::now();
        let mut outcome = self.mutate_once(world, attributes, object).await;
        if outcome.is_ok() {
            let again = {
                let mut reinvocation = attributes.reinvocation.lock();
                reinvocation.again = reinvocation.wanted;
                reinvocation.again
            };
            if again {
                outcome = self.mutate_once(world, attributes, object).await;
            }
        }
        let labels = self.steps.get(Step::Admit, attributes.operation, outcome.is_err());
        self.metrics.step(labels, start.elapsed());
        outcome
    }

    async fn mutate_once(
        &self,
        world: &World<'_>,
        attributes: &Attributes<'_>,
        object: &mut Box<dyn Object>,
    ) -> Result<(), Status> {
        for entry in &self.plugins {
            if entry.plugin.handles(attributes) {
                let start = Instant::now();
                let outcome = entry.plugin.mutate(world, attributes, object).await;
                if entry.admits {
                    self.measure(entry, Step::Admit, attributes, start, outcome.is_err());
                }
                outcome?;
            }
        }
        Ok(())
    }

    pub(crate) async fn validate(
        &self,
        world: &World<'_>,
        attributes: &Attributes<'_>,
        object: Option<&dyn Object>,
    ) -> Result<(), Status> {
        let start = Instant::now();
        let outcome = self.validate_all(world, attributes, object).await;
        let labels = self.steps.get(Step::Validate, attributes.operation, outcome.is_err());
        self.metrics.step(labels, start.elapsed());
        outcome
    }

    async fn validate_all(
        &self,
        world: &World<'_>,
        attributes: &Attributes<'_>,
        object: Option<&dyn Object>,
    ) -> Result<(), Status> {
        for entry in &self.plugins {
            if entry.plugin.handles(attributes) {
                let start = Instant::now();
                let outcome = entry.plugin.validate(world, attributes, object).await;
                if entry.validates {
                    self.measure(entry, Step::Validate, attributes, start, outcome.is_err());
                }
                outcome?;
            }
        }
        Ok(())
    }

    fn measure(&self, entry: &Entry, step: Step, attributes: &Attributes<'_>, start: Instant, rejected: bool) {
        if !entry.name.is_empty() {
            let labels = entry.labels.get(step, attributes.operation, rejected);
            self.metrics.controller(labels, start.elapsed());
        }
    }
}

/// The object as its type; `None` if it is of another.
fn typed<T: 'static>(object: &dyn Object) -> Option<&T> {
    let any: &dyn Any = object;
    any.downcast_ref()
}

fn typed_mut<T: 'static>(object: &mut dyn Object) -> Option<&mut T> {
    let any: &mut dyn Any = object;
    any.downcast_mut()
}

fn as_pod(object: &mut dyn Object) -> Option<&mut Pod> {
    typed_mut(object)
}
