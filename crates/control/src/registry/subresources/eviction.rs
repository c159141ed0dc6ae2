//! An eviction: a deletion that respects disruption budgets.
//!
//! ```text
//!   pod pending, over or going? ──yes──▶ delete
//!        │ no
//!   budgets that select it:  none ──▶ delete        several ──▶ refused
//!        │ one
//!   not ready, and enough others are (or the budget lets unready ones go) ──▶ delete, if it is still the same
//!        │
//!   budget allows it? note it there, so that nobody counts on the pod any more ──▶ delete
//! ```
//! <https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction/>

use crate::admission::{Attributes, Operation};
use crate::kinds::Object;
use crate::registry::filter::Filter;
use crate::registry::update::Part;
use crate::registry::{DeleteOptions, ListOptions, Registry, Target, WriteOptions, body, metadata};
use crate::watch_cache::Record;
use catamaran_api::selector::Selector;
use catamaran_api::{GroupResource, Path, Status};
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::api::policy::v1::{Eviction, PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as metav1;
use std::any::Any;

/// Evictions that a budget's controller has not seen yet; more are refused.
const MOST_DISRUPTED: usize = 2000;
/// How often a budget that somebody else changes meanwhile is tried again.
const ATTEMPTS: usize = 20;
const BUDGETS: GroupResource = GroupResource::from_static("policy", "poddisruptionbudget");
const REFUSED: &str = "Cannot evict pod as it would violate the pod's disruption budget.";

/// What is to be done with a pod that is to be evicted.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Delete it if it is still what was looked at.
    DeleteThis,
    /// Ask the budget first.
    Ask,
}

impl Registry {
    /// POST to `pods/eviction`.
    pub(crate) async fn evict(
        &self,
        target: &Target,
        eviction: Eviction,
        options: &WriteOptions,
    ) -> Result<Status, Status> {
        if eviction.metadata.name.as_deref().unwrap_or_default() != target.name {
            return Err(Status::bad_request(
                "name in URL does not match name in Eviction object",
            ));
        }
        let attributes = Attributes::new(target, Operation::Create, None, options);
        let mut object: Box<dyn Object> = Box::new(eviction);
        self.admission.mutate(&self.world(), &attributes, &mut object).await?;
        let eviction: Eviction = super::retyped(object.as_ref())?;
        self.admission
            .validate(&self.world(), &attributes, Some(&eviction))
            .await?;
        let deletion = deletion(eviction, options)?;
        let mut last = target.modified();
        for _ in 0..ATTEMPTS {
            let record = self.get(target).await?;
            let pod: Pod = serde_json::from_slice(&record.json()).map_err(Status::internal)?;
            if !may_ignore_budgets(&pod) {
                return self.evict_running(target, &record, &pod, &deletion, options).await;
            }
            // A pending one may be ready by now, and then it counts.
            let this = if is_over(&pod) {
                deletion.clone()
            } else {
                only_this(&deletion, &record)
            };
            match self.delete_evicted(target, &this, options).await {
                Err(status) if status.code() == 409 && deletion.resource_version.is_none() => last = status,
                other => return other,
            }
        }
        Err(last)
    }

    async fn evict_running(
        &self,
        target: &Target,
        record: &Record,
        pod: &Pod,
        deletion: &DeleteOptions,
        options: &WriteOptions,
    ) -> Result<Status, Status> {
        let budgets = self.budgets_of(target, pod).await?;
        let budget = match budgets.as_slice() {
            [] => return self.delete_evicted(target, deletion, options).await,
            [budget] => budget,
            _ => return Ok(several()),
        };
        match judge(pod, budget) {
            Verdict::DeleteThis => {
                let result = self.delete_evicted(target, &only_this(deletion, record), options).await;
                match result {
                    Err(status) if status.code() == 409 && deletion.resource_version.is_none() => {
                        Err(still_processed(budget.metadata.name.as_deref().unwrap_or_default()))
                    }
                    other => other,
                }
            }
            Verdict::Ask => {
                self.charge(target, pod, budget, deletion.dry_run).await?;
                self.delete_evicted(target, deletion, options).await
            }
        }
    }

    /// Notes in the pod why it goes, and deletes it.
    async fn delete_evicted(
        &self,
        target: &Target,
        deletion: &DeleteOptions,
        options: &WriteOptions,
    ) -> Result<Status, Status> {
        let mut deletion = deletion.clone();
        if !deletion.dry_run {
            let system = WriteOptions {
                dry_run: false,
                ..options.clone()
            };
            let marked = self
                .change(target, Part::System, &system, &mut |current, old, _| {
                    check_preconditions(target, old, &current.revision.to_string(), &deletion)?;
                    let mut new = old.boxed_clone();
                    let any: &mut dyn Any = new.as_mut();
                    if let Some(pod) = any.downcast_mut::<Pod>() {
                        mark(pod);
                    }
                    Ok(new)
                })
                .await?;
            if deletion.resource_version.is_some() {
                let pod: Pod = serde_json::from_slice(&marked.json).map_err(Status::internal)?;
                deletion.resource_version = pod.metadata.resource_version;
            }
        }
        self.delete(target, &deletion).await?;
        Ok(created())
    }

    /// The budgets that select a pod. One whose selector is empty or cannot be read selects nothing.
    async fn budgets_of(&self, target: &Target, pod: &Pod) -> Result<Vec<PodDisruptionBudget>, Status> {
        let Some(resource) = self.resource("policy/v1", "poddisruptionbudgets") else {
            return Ok(Vec::new());
        };
        let budgets = Target {
            resource: std::sync::Arc::clone(&resource),
            namespace: target.namespace.clone(),
            name: String::new(),
        };
        let list = ListOptions {
            filter: Filter::parse(&resource, "", "")?,
            limit: 0,
            continue_token: String::new(),
            resource_version: String::new(),
            version_match: None,
            send_initial_events: None,
        };
        let list = self.list(&budgets, &list).await?;
        let mut selected = Vec::new();
        for record in &list.records {
            let budget: PodDisruptionBudget = serde_json::from_slice(&record.json()).map_err(Status::internal)?;
            let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
            let selector = selector.and_then(|selector| Selector::from_object(selector, &Path::ROOT).ok());
            if selector.is_some_and(|selector| !selector.is_everything() && selector.matches(&pod.metadata.labels)) {
                selected.push(budget);
            }
        }
        Ok(selected)
    }

    /// Takes one disruption from the budget, and notes for whom.
    async fn charge(
        &self,
        target: &Target,
        pod: &Pod,
        budget: &PodDisruptionBudget,
        dry_run: bool,
    ) -> Result<(), Status> {
        let name = budget.metadata.name.clone().unwrap_or_default();
        let resource = self
            .resource("policy/v1", "poddisruptionbudgets")
            .ok_or_else(Status::unknown_path)?;
        let budgets = Target {
            resource,
            namespace: target.namespace.clone(),
            name: name.clone(),
        };
        let pod_name = pod.metadata.name.clone().unwrap_or_default();
        let mut budget = budget.clone();
        for _ in 0..ATTEMPTS {
            check_budget(&budget)?;
            let status = budget.status.get_or_insert_default();
            take_one(status, pod_name.clone());
            if dry_run {
                return Ok(());
            }
            let value = serde_json::to_value(&budget).map_err(Status::internal)?;
            let write = WriteOptions {
                subresource: "status",
                dry_run: false,
                ..WriteOptions::default()
            };
            match self
                .update(&budgets, Part::Status, body::tree_body(value), &write)
                .await
            {
                Ok(_) => return Ok(()),
                Err(status) if status.code() == 409 => {
                    let record = self.get(&budgets).await?;
                    budget = serde_json::from_slice(&record.json()).map_err(Status::internal)?;
                }
                Err(status) => return Err(status),
            }
        }
        let why = format!("couldn't update PodDisruptionBudget {name:?} due to conflicts");
        Err(Status::timeout(why, 10))
    }
}

/// How the pod is to be deleted: what the eviction says, and whether the request only tries.
fn deletion(eviction: Eviction, options: &WriteOptions) -> Result<DeleteOptions, Status> {
    let mut body = eviction.delete_options.unwrap_or_default();
    if options.dry_run && body.dry_run.as_ref().is_none_or(Vec::is_empty) {
        body.dry_run = Some(vec!["All".to_owned()]);
    }
    let mut deletion = DeleteOptions::from_body(body)?;
    deletion.caller = std::sync::Arc::clone(&options.caller);
    Ok(deletion)
}

/// The same, if the object is still as it was read.
fn only_this(deletion: &DeleteOptions, record: &Record) -> DeleteOptions {
    let read = Some(record.revision.to_string());
    DeleteOptions {
        resource_version: deletion.resource_version.clone().or(read),
        ..deletion.clone()
    }
}

fn phase(pod: &Pod) -> &str {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    phase.unwrap_or_default()
}

/// It has ended, or is about to: nothing is disrupted any more.
fn is_over(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed") || pod.metadata.deletion_timestamp.is_some()
}

fn may_ignore_budgets(pod: &Pod) -> bool {
    is_over(pod) || phase(pod) == "Pending"
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut ready = conditions.filter(|condition| condition.type_ == "Ready");
    ready.any(|condition| condition.status == "True")
}

/// Pure: does the budget have to be asked?
fn judge(pod: &Pod, budget: &PodDisruptionBudget) -> Verdict {
    if is_ready(pod) {
        return Verdict::Ask;
    }
    let policy = budget
        .spec
        .as_ref()
        .and_then(|spec| spec.unhealthy_pod_eviction_policy.as_deref());
    if policy == Some("AlwaysAllow") {
        return Verdict::DeleteThis;
    }
    let healthy = budget
        .status
        .as_ref()
        .is_some_and(|status| status.current_healthy >= status.desired_healthy && status.desired_healthy > 0);
    if healthy { Verdict::DeleteThis } else { Verdict::Ask }
}

/// Does the budget allow one more disruption?
fn check_budget(budget: &PodDisruptionBudget) -> Result<(), Status> {
    let name = budget.metadata.name.as_deref().unwrap_or_default();
    let none = PodDisruptionBudgetStatus::default();
    let status = budget.status.as_ref().unwrap_or(&none);
    if status.observed_generation.unwrap_or(0) < budget.metadata.generation.unwrap_or(0) {
        return Err(still_processed(name));
    }
    if status.disruptions_allowed < 0 {
        return Err(Status::forbidden(&BUDGETS, name, "pdb disruptions allowed is negative"));
    }
    if status
        .disrupted_pods
        .as_ref()
        .is_some_and(|pods| pods.len() > MOST_DISRUPTED)
    {
        let why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller";
        return Err(Status::forbidden(&BUDGETS, name, why));
    }
    if status.disruptions_allowed > 0 {
        return Ok(());
    }
    let failed = status.conditions.iter().flatten().find(|condition| {
        condition.type_ == "DisruptionAllowed" && condition.status == "False" && condition.reason == "SyncFailed"
    });
    let message = match failed {
        Some(condition) => format!(
            "The disruption budget {name} does not allow evicting pods currently because it failed sync: {}",
            condition.message
        ),
        None => format!(
            "The disruption budget {name} needs {} healthy pods and has {} currently",
            status.desired_healthy, status.current_healthy
        ),
    };
    Err(too_many(message, 0))
}

/// Notes a disruption.
fn take_one(status: &mut PodDisruptionBudgetStatus, pod: String) {
    status.disruptions_allowed -= 1;
    if status.disruptions_allowed == 0 {
        let conditions = status.conditions.get_or_insert_default();
        let wanted = metav1::Condition {
            type_: "DisruptionAllowed".to_owned(),
            status: "False".to_owned(),
            reason: "InsufficientPods".to_owned(),
            message: String::new(),
            observed_generation: status.observed_generation,
            last_transition_time: metadata::now(),
        };
        match conditions.iter_mut().find(|condition| condition.type_ == wanted.type_) {
            Some(own) => {
                let since = (own.status == wanted.status).then(|| own.last_transition_time.clone());
                *own = wanted;
                if let Some(since) = since {
                    own.last_transition_time = since;
                }
            }
            None => conditions.push(wanted),
        }
    }
    status
        .disrupted_pods
        .get_or_insert_default()
        .insert(pod, metadata::now());
}

/// Says in the pod why it goes.
fn mark(pod: &mut Pod) {
    let generation = pod.metadata.generation;
    let status = pod.status.get_or_insert_default();
    let observed = status.observed_generation.and(generation);
    let conditions = status.conditions.get_or_insert_default();
    let before = conditions
        .iter()
        .position(|condition| condition.type_ == "DisruptionTarget");
    let mut condition = PodCondition {
        type_: "DisruptionTarget".to_owned(),
        status: "True".to_owned(),
        reason: Some("EvictionByEvictionAPI".to_owned()),
        message: Some("Eviction API: evicting".to_owned()),
        observed_generation: observed,
        last_transition_time: Some(metadata::now()),
        ..PodCondition::default()
    };
    match before {
        Some(at) if conditions[at].status == "True" => {
            condition
                .last_transition_time
                .clone_from(&conditions[at].last_transition_time);
            conditions[at] = condition;
        }
        Some(at) => conditions[at] = condition,
        None => conditions.push(condition),
    }
}

fn check_preconditions(
    target: &Target,
    old: &dyn Object,
    version: &str,
    deletion: &DeleteOptions,
) -> Result<(), Status> {
    let kind = GroupResource::from_static("", "Pod");
    let own = old.meta().uid.as_deref().unwrap_or_default();
    if let Some(uid) = deletion.uid.as_deref().filter(|uid| *uid != own) {
        let why = format!(
            "the UID in the precondition ({uid}) does not match the UID in record ({own}). The object might have been \
             deleted and then recreated"
        );
        return Err(Status::conflict(&kind, &target.name, why));
    }
    if let Some(wanted) = deletion.resource_version.as_deref().filter(|wanted| *wanted != version) {
        let why = format!(
            "the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion in record ({version}). \
             The object might have been modified"
        );
        return Err(Status::conflict(&kind, &target.name, why));
    }
    Ok(())
}

fn too_many(message: String, retry_after_seconds: u32) -> Status {
    let mut status = Status::too_many_requests(REFUSED, retry_after_seconds).into_inner();
    let details = status.details.get_or_insert_default();
    details.causes.get_or_insert_default().push(metav1::StatusCause {
        reason: Some("DisruptionBudget".to_owned()),
        message: Some(message),
        field: None,
    });
    status.into()
}

fn still_processed(name: &str) -> Status {
    let message = format!("The disruption budget {name} is still being processed by the server.");
    too_many(message, 10)
}

/// What an eviction that was done answers.
fn created() -> Status {
    Status::from(metav1::Status {
        status: Some("Success".to_owned()),
        code: Some(201),
        ..metav1::Status::default()
    })
}

fn several() -> Status {
    Status::from(metav1::Status {
        status: Some("Failure".to_owned()),
        message: Some(
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
                .to_owned(),
        ),
        code: Some(500),
        ..metav1::Status::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(ready: bool) -> Pod {
        let conditions = json!([{ "type": "Ready", "status": if ready { "True" } else { "False" } }]);
        serde_json::from_value(json!({ "metadata": {}, "status": { "phase": "Running", "conditions": conditions } }))
            .unwrap()
    }

    fn budget(policy: Option<&str>, status: Value) -> PodDisruptionBudget {
        let mut budget = json!({ "metadata": { "name": "b" }, "spec": {}, "status": status });
        if let Some(policy) = policy {
            budget["spec"]["unhealthyPodEvictionPolicy"] = json!(policy);
        }
        serde_json::from_value(budget).unwrap()
    }

    #[test]
    fn unready_pods_go_while_enough_others_are_ready() {
        let healthy = json!({ "currentHealthy": 2, "desiredHealthy": 2, "disruptionsAllowed": 0, "expectedPods": 3 });
        let short = json!({ "currentHealthy": 1, "desiredHealthy": 2, "disruptionsAllowed": 0, "expectedPods": 3 });
        assert_eq!(judge(&pod(true), &budget(None, healthy.clone())), Verdict::Ask);
        assert_eq!(judge(&pod(false), &budget(None, healthy)), Verdict::DeleteThis);
        assert_eq!(judge(&pod(false), &budget(None, short.clone())), Verdict::Ask);
        assert_eq!(
            judge(&pod(false), &budget(Some("IfHealthyBudget"), short.clone())),
            Verdict::Ask
        );
        assert_eq!(
            judge(&pod(false), &budget(Some("AlwaysAllow"), short)),
            Verdict::DeleteThis
        );
    }

    #[test]
    fn a_budget_allows_what_it_says() {
        let text = |status: Value| match check_budget(&budget(None, status)) {
            Ok(()) => "ok".to_owned(),
            Err(status) => {
                let cause = status
                    .as_inner()
                    .details
                    .clone()
                    .unwrap_or_default()
                    .causes
                    .unwrap_or_default();
                let cause = cause
                    .first()
                    .and_then(|cause| cause.message.clone())
                    .unwrap_or_default();
                format!("{} {cause}", status.code())
            }
        };
        let of = |allowed: i32| json!({ "currentHealthy": 1, "desiredHealthy": 2, "disruptionsAllowed": allowed, "expectedPods": 3 });
        assert_eq!(text(of(1)), "ok");
        assert_eq!(
            text(of(0)),
            "429 The disruption budget b needs 2 healthy pods and has 1 currently"
        );
        assert_eq!(text(of(-1)), "403 ");
    }
}
