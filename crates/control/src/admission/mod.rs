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

pub(crate) use loose::Loose;
pub(crate) use policies::keep_status as keep_policy_status;

use crate::kinds::Object;
use crate::registry::{Caller, Registry, Target, WriteOptions};
use crate::watch_cache::Record;
use async_trait::async_trait;
use catamaran_api::Status;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use serde_json::Value;
use std::any::Any;
use std::sync::Arc;

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
    plugins: Vec<Box<dyn Plugin>>,
}

impl Chain {
    /// Those that are always there.
    pub(crate) fn standard() -> Self {
        Chain {
            plugins: vec![
                Box::new(namespace_lifecycle::NamespaceLifecycle),
                Box::new(limit_ranger::LimitRanger),
                Box::new(service_account::ServiceAccounts),
                Box::new(node_restriction::NodeRestriction),
                Box::new(pod_security::PodSecurity),
                Box::new(priority::Priority::default()),
                Box::new(toleration_seconds::DefaultTolerationSeconds),
                Box::new(storage::DefaultStorageClass::default()),
                Box::new(storage::ObjectInUseProtection),
                Box::new(storage::ClaimResize),
                Box::new(runtime_class::RuntimeClasses),
                Box::new(certificates::Approval),
                Box::new(certificates::Signing),
                Box::new(certificates::SubjectRestriction),
                Box::new(ingress_class::DefaultIngressClass::default()),
                Box::new(crate::authz::escalation::Escalation),
                Box::new(policies::Expressions),
                Box::new(webhooks::MutatingWebhooks::default()),
                Box::new(policies::ValidatingPolicies::default()),
                Box::new(webhooks::ValidatingWebhooks::default()),
                // Behind everything that changes objects: nobody else says who a request is from.
                Box::new(certificates::Requester),
                Box::new(resource_quota::ResourceQuotas::default()),
            ],
        }
    }

    /// Lets every plugin change the object; twice if a webhook did.
    pub(crate) async fn mutate(
        &self,
        world: &World<'_>,
        attributes: &Attributes<'_>,
        object: &mut Box<dyn Object>,
    ) -> Result<(), Status> {
        self.mutate_once(world, attributes, object).await?;
        let again = {
            let mut reinvocation = attributes.reinvocation.lock();
            reinvocation.again = reinvocation.wanted;
            reinvocation.again
        };
        if again {
            self.mutate_once(world, attributes, object).await?;
        }
        Ok(())
    }

    async fn mutate_once(
        &self,
        world: &World<'_>,
        attributes: &Attributes<'_>,
        object: &mut Box<dyn Object>,
    ) -> Result<(), Status> {
        for plugin in &self.plugins {
            if plugin.handles(attributes) {
                plugin.mutate(world, attributes, object).await?;
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
        for plugin in &self.plugins {
            if plugin.handles(attributes) {
                plugin.validate(world, attributes, object).await?;
            }
        }
        Ok(())
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
