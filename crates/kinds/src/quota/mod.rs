//! What an object costs its namespace: the numbers that resource quotas bound.
//!
//! Two look at them, and have to come to the same result: admission, which charges a quota before an object is written, and
//! the controller that recounts it. <https://kubernetes.io/docs/concepts/policy/resource-quotas/>

mod amounts;
mod claims;
mod pods;
mod scopes;
mod services;

pub use amounts::{Amounts, add, is_zero, masked, of_wire, subtract, to_wire, without_zeros};
pub use pods::{Counting, pod_limits, pod_requests};
pub use scopes::{Scope, scopes_of};

use catamaran_api::quantity::Quantity;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Service};
use k8s_openapi::jiff::Timestamp;

/// An object as quotas see it.
#[derive(Clone, Copy)]
pub enum Subject<'a> {
    Pod(&'a Pod),
    Claim(&'a PersistentVolumeClaim),
    Service(&'a Service),
    /// Only counted.
    Other,
}

/// Knows what objects of one resource cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counter {
    sort: Sort,
    /// `count/<plural>.<group>`.
    count: String,
    /// The older name of the same number: `configmaps`.
    alias: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Pods,
    Claims,
    Services,
    Counted,
}

impl Counter {
    /// The counter of a resource. Everything can be counted.
    pub fn of(group: &str, plural: &str) -> Counter {
        let sort = match (group, plural) {
            ("", "pods") => Sort::Pods,
            ("", "persistentvolumeclaims") => Sort::Claims,
            ("", "services") => Sort::Services,
            _ => Sort::Counted,
        };
        let alias = match (group, plural) {
            ("", "configmaps") => Some("configmaps"),
            ("", "replicationcontrollers") => Some("replicationcontrollers"),
            ("", "resourcequotas") => Some("resourcequotas"),
            ("", "secrets") => Some("secrets"),
            _ => None,
        };
        let count = if group.is_empty() {
            format!("count/{plural}")
        } else {
            format!("count/{plural}.{group}")
        };
        Counter { sort, count, alias }
    }

    /// Can an update change what an object costs?
    pub fn counts_updates(&self) -> bool {
        matches!(self.sort, Sort::Claims | Sort::Services)
    }

    /// Is this name in a quota about objects of this resource?
    pub fn counts(&self, name: &str) -> bool {
        name == self.count
            || match self.sort {
                Sort::Pods => pods::counts(name),
                Sort::Claims => claims::counts(name),
                Sort::Services => services::counts(name),
                Sort::Counted => self.alias == Some(name),
            }
    }

    /// What an object costs. `now` decides whether a pod that is being deleted still counts.
    pub fn usage(&self, subject: Subject<'_>, now: Timestamp) -> Amounts {
        let mut usage = match subject {
            Subject::Pod(pod) => pods::usage(pod, now),
            Subject::Claim(claim) => claims::usage(claim),
            Subject::Service(service) => services::usage(service),
            Subject::Other => Amounts::new(),
        };
        let one = Quantity::from_units(1);
        usage.insert(self.count.clone(), one);
        if let Some(alias) = self.alias {
            usage.insert(alias.to_owned(), one);
        }
        usage
    }

    /// Whatever a quota bounds of CPU and memory, every container has to state. The error names what is missing.
    pub fn check_stated<'n>(&self, bounded: impl Iterator<Item = &'n str>, subject: Subject<'_>) -> Result<(), String> {
        match subject {
            Subject::Pod(pod) => pods::check_stated(bounded, pod),
            _ => Ok(()),
        }
    }

    /// Is the object one of those that all these scopes are about?
    pub fn in_scopes(&self, scopes: &[Scope], subject: Subject<'_>) -> bool {
        scopes.iter().all(|scope| match subject {
            Subject::Pod(pod) => scope.has_pod(pod),
            Subject::Claim(claim) => scope.has_claim(claim),
            Subject::Service(_) | Subject::Other => false,
        })
    }
}

#[cfg(test)]
mod tests;
