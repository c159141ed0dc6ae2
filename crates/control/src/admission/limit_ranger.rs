//! What containers, pods and claims of a namespace may ask for, and what they get if they do not ask.
//!
//! <https://kubernetes.io/docs/concepts/policy/limit-range/>

mod constraints;

use super::{Attributes, Operation, Plugin, World, decoded, typed, typed_mut};
use crate::kinds::Object;
use crate::kinds::quota::{Amounts, Counting, of_wire, pod_limits, pod_requests};
use async_trait::async_trait;
use catamaran_api::Status;
use constraints::{Checked, max, max_request, min, ratio};
use k8s_openapi::api::core::v1::{Container, LimitRange, LimitRangeItem, PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

/// Tells which amounts were not asked for.
const ANNOTATION: &str = "kubernetes.io/limit-ranger";

pub(super) struct LimitRanger;

#[async_trait]
impl Plugin for LimitRanger {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        let resize = attributes.operation == Operation::Update
            && attributes.subresource == "resize"
            && attributes.concerns("", "pods");
        resize || attributes.is_create_of("v1", "pods") || attributes.is_write_of("v1", "persistentvolumeclaims")
    }

    async fn mutate(
        &self,
        world: &World<'_>,
        attributes: &Attributes<'_>,
        object: &mut Box<dyn Object>,
    ) -> Result<(), Status> {
        if let Some(pod) = typed_mut::<Pod>(object.as_mut()) {
            for range in ranges(world, attributes)? {
                fill_in(pod, &range);
            }
        }
        Ok(())
    }

    async fn validate(
        &self,
        world: &World<'_>,
        attributes: &Attributes<'_>,
        object: Option<&dyn Object>,
    ) -> Result<(), Status> {
        let Some(object) = object else { return Ok(()) };
        for range in ranges(world, attributes)? {
            let complaints = if let Some(pod) = typed::<Pod>(object) {
                of_pod(pod, &range)
            } else if let Some(claim) = typed::<PersistentVolumeClaim>(object) {
                of_claim(claim, &range)
            } else {
                Vec::new()
            };
            match complaints.as_slice() {
                [] => {}
                [only] => return Err(attributes.forbidden(Some(object), only)),
                several => return Err(attributes.forbidden(Some(object), format!("[{}]", several.join(", ")))),
            }
        }
        Ok(())
    }
}

/// The ranges of the request's namespace; none for what is being deleted.
fn ranges(world: &World<'_>, attributes: &Attributes<'_>) -> Result<Vec<LimitRange>, Status> {
    let going = attributes
        .old
        .is_some_and(|old| old.meta().deletion_timestamp.is_some());
    let Some(namespace) = attributes.target.namespace.as_deref().filter(|_| !going) else {
        return Ok(Vec::new());
    };
    let records = world.list("v1", "limitranges", Some(namespace));
    records.iter().map(|record| decoded(record)).collect()
}

fn items<'a>(range: &'a LimitRange, type_: &'a str) -> impl Iterator<Item = &'a LimitRangeItem> {
    let spec = range.spec.iter();
    spec.flat_map(|spec| &spec.limits)
        .filter(move |item| item.type_ == type_)
}

/// Gives containers what the range has for those that do not ask.
fn fill_in(pod: &mut Pod, range: &LimitRange) {
    let mut requests: BTreeMap<String, Quantity> = BTreeMap::new();
    let mut limits: BTreeMap<String, Quantity> = BTreeMap::new();
    for item in items(range, "Container") {
        requests.extend(item.default_request.clone().unwrap_or_default());
        limits.extend(item.default.clone().unwrap_or_default());
    }
    let Some(spec) = pod.spec.as_mut() else { return };
    let mut notes = Vec::new();
    for container in &mut spec.containers {
        fill_container(container, "container", &requests, &limits, &mut notes);
    }
    for container in spec.init_containers.iter_mut().flatten() {
        fill_container(container, "init container", &requests, &limits, &mut notes);
    }
    if !notes.is_empty() {
        let text = format!("LimitRanger plugin set: {}", notes.join("; "));
        let annotations = pod.metadata.annotations.get_or_insert_default();
        annotations.insert(ANNOTATION.to_owned(), text);
    }
}

fn fill_container(
    container: &mut Container,
    sort: &str,
    requests: &BTreeMap<String, Quantity>,
    limits: &BTreeMap<String, Quantity>,
    notes: &mut Vec<String>,
) {
    let mut fill = |what: &str, own: &mut Option<BTreeMap<String, Quantity>>, defaults: &BTreeMap<String, Quantity>| {
        let mut set = Vec::new();
        for (name, quantity) in defaults {
            let own = own.get_or_insert_default();
            if !own.contains_key(name) {
                own.insert(name.clone(), quantity.clone());
                set.push(name.as_str());
            }
        }
        if !set.is_empty() {
            notes.push(format!("{} {what} for {sort} {}", set.join(", "), container.name));
        }
    };
    let resources = container.resources.get_or_insert_default();
    fill("request", &mut resources.requests, requests);
    fill("limit", &mut resources.limits, limits);
}

fn of_pod(pod: &Pod, range: &LimitRange) -> Vec<String> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let mut complaints = Vec::new();
    for item in range.spec.iter().flat_map(|spec| &spec.limits) {
        match item.type_.as_str() {
            "Container" => {
                for container in spec.containers.iter().chain(spec.init_containers.iter().flatten()) {
                    let resources = container.resources.as_ref();
                    let requests = of_wire(resources.and_then(|resources| resources.requests.as_ref()));
                    let limits = of_wire(resources.and_then(|resources| resources.limits.as_ref()));
                    check_all(item, &requests, &limits, &mut complaints);
                }
            }
            "Pod" => {
                let counting = Counting::default();
                let (requests, limits) = (pod_requests(pod, counting), pod_limits(pod, counting));
                check_all(item, &requests, &limits, &mut complaints);
            }
            _ => {}
        }
    }
    complaints
}

fn check_all(item: &LimitRangeItem, requests: &Amounts, limits: &Amounts, complaints: &mut Vec<String>) {
    let bounds = [
        (&item.min, min as Checked),
        (&item.max, max as Checked),
        (&item.max_limit_request_ratio, ratio as Checked),
    ];
    for (bounds, check) in bounds {
        for (name, bound) in of_wire(bounds.as_ref()) {
            complaints.extend(check(&item.type_, &name, bound, requests, limits));
        }
    }
}

fn of_claim(claim: &PersistentVolumeClaim, range: &LimitRange) -> Vec<String> {
    let resources = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref());
    let requests = of_wire(resources.and_then(|resources| resources.requests.as_ref()));
    let mut complaints = Vec::new();
    for item in items(range, "PersistentVolumeClaim") {
        for (name, bound) in of_wire(item.min.as_ref()) {
            complaints.extend(min(&item.type_, &name, bound, &requests, &Amounts::new()));
        }
        for (name, bound) in of_wire(item.max.as_ref()) {
            complaints.extend(max_request(&item.type_, &name, bound, &requests));
        }
    }
    complaints
}

#[cfg(test)]
mod tests;
