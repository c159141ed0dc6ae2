//! Node: a machine that runs pods, as its agent reports it.

use crate::{FieldLabel, Kind, STATUS, Subresource, age, name};
use catamaran_api::quantity::Quantity;
use catamaran_api::table::Column;
use catamaran_api::{Errors, Path, names};
use k8s_openapi::api::core::v1::{Node, NodeSpec, NodeStatus, Taint};
use k8s_openapi::jiff::Timestamp;
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
            let path = Path::new("spec");
            validate_taints(
                spec.taints.as_deref().unwrap_or_default(),
                &path.child("taints"),
                errors,
            );
            for (index, cidr) in spec.pod_cidrs.iter().flatten().enumerate() {
                errors.invalid_each(&path.child("podCIDRs").index(index), cidr, names::cidr(cidr));
            }
        }
        if let Some(status) = &object.status {
            validate_status(status, errors);
        }
    }

    fn validate_update(&self, new: &Node, old: &Node, errors: &mut Errors) {
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

fn validate_taints(taints: &[Taint], path: &Path<'_>, errors: &mut Errors) {
    for (index, taint) in taints.iter().enumerate() {
        let at = path.index(index);
        errors.invalid_each(&at.child("key"), &taint.key, names::qualified_name(&taint.key));
        let value = taint.value.as_deref().unwrap_or_default();
        errors.invalid_each(&at.child("value"), value, names::label_value(value));
        if taint.effect.is_empty() {
            errors.required(&at.child("effect"), "");
        } else if !["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&taint.effect.as_str()) {
            let supported = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
            errors.not_supported(&at.child("effect"), taint.effect.as_str(), &supported);
        }
        if taints[..index]
            .iter()
            .any(|other| (&other.key, &other.effect) == (&taint.key, &taint.effect))
        {
            let shown = serde_json::to_value(taint).unwrap_or_default();
            errors.duplicate(&at, shown);
        }
    }
}

fn validate_status(status: &NodeStatus, errors: &mut Errors) {
    let path = Path::new("status");
    for (field, list) in [("capacity", &status.capacity), ("allocatable", &status.allocatable)] {
        for (resource, amount) in list.iter().flatten() {
            if Quantity::try_from(amount).is_ok_and(Quantity::is_negative) {
                let list = path.child(field);
                errors.invalid(
                    &list.key(resource),
                    amount.0.as_str(),
                    "must be greater than or equal to 0",
                );
            }
        }
    }
    let addresses = status.addresses.as_deref().unwrap_or_default();
    for (index, address) in addresses.iter().enumerate() {
        if addresses[..index].contains(address) {
            let list = path.child("addresses");
            errors.duplicate(&list.index(index), serde_json::to_value(address).unwrap_or_default());
        }
    }
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
