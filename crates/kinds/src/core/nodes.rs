//! Node: a machine that runs pods, as its agent reports it.

use crate::core::amounts;
use crate::rules::{is_dual_stack, one_of_required};
use crate::{FieldLabel, Kind, STATUS, Subresource, age, name};
use catamaran_api::field::Reason;
use catamaran_api::table::Column;
use catamaran_api::{Errors, Path, names};
use k8s_openapi::api::core::v1::{Node, NodeSpec, NodeStatus, Taint};
use k8s_openapi::jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

pub(crate) struct Nodes;

impl Kind for Nodes {
    type Object = Node;
    const NAMESPACED: bool = false;
    const SHORT_NAMES: &'static [&'static str] = &["no"];
    const FIELD_SELECTORS: &'static [FieldLabel] = &[FieldLabel::new("spec.unschedulable").or("false")];
    const SUBRESOURCES: &'static [Subresource] = &[
        Subresource {
            name: "proxy",
            kind: "NodeProxyOptions",
            api_version: "",
            verbs: &["create", "delete", "get", "patch", "update"],
        },
        STATUS,
    ];

    /// What can be allocated is what is there, unless the agent says otherwise.
    fn default(&self, object: &mut Node) {
        if let Some(spec) = &mut object.spec {
            agree_on_ranges(spec);
        }
        if let Some(status) = &mut object.status
            && status.allocatable.is_none()
        {
            status.allocatable.clone_from(&status.capacity);
        }
    }

    fn prepare_update(&self, new: &mut Node, old: &Node) {
        new.status.clone_from(&old.status);
    }

    fn prepare_status(&self, new: &mut Node, old: &Node) {
        new.spec.clone_from(&old.spec);
    }

    fn validate(&self, object: &Node, errors: &mut Errors) {
        if let Some(spec) = &object.spec {
            // Long ago taints were an annotation, and errors still name that place.
            let path = Path::new("metadata");
            let taints = spec.taints.as_deref().unwrap_or_default();
            validate_taints(taints, &path.child("taints"), errors);
        }
        if let Some(status) = &object.status {
            validate_resources(status, errors);
        }
        let ranges = object.spec.as_ref().and_then(|spec| spec.pod_cidrs.as_deref());
        validate_ranges(ranges.unwrap_or_default(), errors);
    }

    fn validate_status(&self, new: &Node, old: &Node, errors: &mut Errors) {
        Kind::validate(self, new, errors);
        Kind::validate_update(self, new, old, errors);
    }

    fn validate_update(&self, new: &Node, old: &Node, errors: &mut Errors) {
        if let Some(status) = &new.status {
            validate_addresses(status, errors);
        }
        let empty = NodeSpec::default();
        let (new, old) = (new.spec.as_ref().unwrap_or(&empty), old.spec.as_ref().unwrap_or(&empty));
        let path = Path::new("spec");
        let cidrs = |spec: &NodeSpec| spec.pod_cidrs.clone().unwrap_or_default();
        if !cidrs(old).is_empty() && cidrs(old) != cidrs(new) {
            errors.forbidden(
                &path.child("podCIDRs"),
                "node updates may not change podCIDR except from \"\" to valid",
            );
        }
        let provider = |spec: &NodeSpec| spec.provider_id.clone().unwrap_or_default();
        if !provider(old).is_empty() && provider(old) != provider(new) {
            errors.forbidden(
                &path.child("providerID"),
                "node updates may not change providerID except from \"\" to valid",
            );
        }
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            Column::NAME,
            Column::string("Status", "Whether the node can run pods."),
            Column::string("Roles", "Roles from the node-role.kubernetes.io labels."),
            Column::AGE,
            Column::string("Version", "Version of the agent."),
            Column::string("Internal-IP", "Address inside the cluster.").wide(),
            Column::string("External-IP", "Address outside the cluster.").wide(),
            Column::string("OS-Image", "Name and version of the operating system.").wide(),
            Column::string("Kernel-Version", "Version of the kernel.").wide(),
            Column::string("Container-Runtime", "Runtime and its version.").wide(),
        ];
        COLUMNS
    }

    fn row(&self, object: &Node, now: Timestamp) -> Vec<Value> {
        let info = object.status.as_ref().and_then(|status| status.node_info.as_ref());
        let of_info = |text: Option<&String>| {
            Value::from(text.filter(|text| !text.is_empty()).map_or("<unknown>", String::as_str))
        };
        vec![
            name(&object.metadata),
            readiness(object).into(),
            roles(object).into(),
            age(&object.metadata, now),
            info.map_or_else(String::new, |info| info.kubelet_version.clone())
                .into(),
            address(object, "InternalIP").into(),
            address(object, "ExternalIP").into(),
            of_info(info.map(|info| &info.os_image)),
            of_info(info.map(|info| &info.kernel_version)),
            of_info(info.map(|info| &info.container_runtime_version)),
        ]
    }
}

/// `podCIDR` is the old field for the first of `podCIDRs`.
fn agree_on_ranges(spec: &mut NodeSpec) {
    let first = spec.pod_cidrs.as_ref().and_then(|ranges| ranges.first());
    match spec.pod_cidr.as_ref().filter(|range| !range.is_empty()) {
        Some(range) if first != Some(range) => spec.pod_cidrs = Some(vec![range.clone()]),
        Some(_) => {}
        None => spec.pod_cidr = first.cloned(),
    }
}

fn validate_ranges(ranges: &[String], errors: &mut Errors) {
    let path = Path::new("spec");
    let path = path.child("podCIDRs");
    for (index, range) in ranges.iter().enumerate() {
        errors.invalid_each(&path.index(index), range, names::cidr(range));
    }
    if ranges.len() > 1 && (ranges.len() > 2 || !is_dual_stack(ranges)) {
        let detail = "may specify no more than one CIDR for each IP family";
        errors.invalid(&path, ranges.to_vec(), detail);
    }
}

/// A taint as Kubernetes' own type has it, for errors.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ShownTaint<'a> {
    key: &'a str,
    value: &'a str,
    effect: &'a str,
    time_added: Option<String>,
}

fn validate_taints(taints: &[Taint], path: &Path<'_>, errors: &mut Errors) {
    let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
    for (index, taint) in taints.iter().enumerate() {
        let at = path.index(index);
        errors.invalid_each(&at.child("key"), &taint.key, names::qualified_name(&taint.key));
        let value = taint.value.as_deref().unwrap_or_default();
        let messages = names::label_value(value);
        if !messages.is_empty() {
            errors.invalid(&at.child("value"), value, messages.join(";"));
        }
        one_of_required(&taint.effect, &effects, &at.child("effect"), errors);
        let same = |other: &Taint| (&other.key, &other.effect) == (&taint.key, &taint.effect);
        if taints[..index].iter().any(same) {
            let shown = ShownTaint {
                key: &taint.key,
                value,
                effect: &taint.effect,
                time_added: taint.time_added.as_ref().map(|time| time.0.to_string()),
            };
            let detail = "taints must be unique by key and effect pair";
            errors.ordered(Reason::Duplicate, &at, &shown, detail);
        }
    }
}

fn validate_resources(status: &NodeStatus, errors: &mut Errors) {
    let path = Path::new("status");
    for (field, list) in [("capacity", &status.capacity), ("allocatable", &status.allocatable)] {
        let path = path.child(field);
        for (resource, amount) in list.iter().flatten() {
            amounts::value(resource, amount, &path.child(resource), errors);
        }
    }
}

fn validate_addresses(status: &NodeStatus, errors: &mut Errors) {
    let path = Path::new("status");
    let list = path.child("addresses");
    let addresses = status.addresses.as_deref().unwrap_or_default();
    for (index, address) in addresses.iter().enumerate() {
        if addresses[..index].contains(address) {
            let shown = ShownAddress {
                r#type: &address.type_,
                address: &address.address,
            };
            errors.ordered(Reason::Duplicate, &list.index(index), &shown, "");
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ShownAddress<'a> {
    r#type: &'a str,
    address: &'a str,
}

fn readiness(object: &Node) -> String {
    let conditions = object
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default();
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready");
    let mut text = match ready {
        Some(condition) if condition.status == "True" => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if object
        .spec
        .as_ref()
        .is_some_and(|spec| spec.unschedulable == Some(true))
    {
        text.push_str(",SchedulingDisabled");
    }
    text
}

fn roles(object: &Node) -> String {
    let mut roles: Vec<&str> = Vec::new();
    for (key, value) in object.metadata.labels.iter().flatten() {
        match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) if !role.is_empty() => roles.push(role),
            None if key == "kubernetes.io/role" && !value.is_empty() => roles.push(value),
            _ => {}
        }
    }
    roles.sort_unstable();
    roles.dedup();
    if roles.is_empty() {
        "<none>".to_owned()
    } else {
        roles.join(",")
    }
}

fn address(object: &Node, kind: &str) -> String {
    let addresses = object
        .status
        .as_ref()
        .and_then(|status| status.addresses.as_deref())
        .unwrap_or_default();
    let found = addresses.iter().find(|address| address.type_ == kind);
    found.map_or_else(|| "<none>".to_owned(), |address| address.address.clone())
}
