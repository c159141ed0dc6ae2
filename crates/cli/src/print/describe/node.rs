//! The page of a node.

use super::{Facts, Page, age, array, scalar, text, time};
use catamaran_api::quantity::Quantity;
use serde_json::Value;

pub(super) fn write(page: &mut Page, facts: &Facts<'_>) {
    let node = facts.object;
    let (metadata, spec, status) = (&node["metadata"], &node["spec"], &node["status"]);
    page.field(0, "Name", text(&metadata["name"]));
    page.field(0, "Roles", roles(&metadata["labels"]));
    page.map(0, "Labels", &metadata["labels"], "=");
    page.map(0, "Annotations", &metadata["annotations"], ": ");
    page.field(0, "CreationTimestamp", time(&metadata["creationTimestamp"]));
    let taints = array(&spec["taints"]).iter().map(|taint| {
        let value = scalar(&taint["value"])
            .map(|value| format!("={value}"))
            .unwrap_or_default();
        format!("{}{value}:{}", text(&taint["key"]), text(&taint["effect"]))
    });
    page.list(0, "Taints", &taints.collect::<Vec<_>>());
    page.field(
        0,
        "Unschedulable",
        if spec["unschedulable"] == true { "true" } else { "false" },
    );
    page.line(0, "Conditions:");
    page.line(
        1,
        "Type\tStatus\tLastHeartbeatTime\tLastTransitionTime\tReason\tMessage",
    );
    page.line(
        1,
        "----\t------\t-----------------\t------------------\t------\t-------",
    );
    for condition in array(&status["conditions"]) {
        page.line(
            1,
            [
                text(&condition["type"]),
                text(&condition["status"]),
                &time(&condition["lastHeartbeatTime"]),
                &time(&condition["lastTransitionTime"]),
                text(&condition["reason"]),
                text(&condition["message"]),
            ]
            .join("\t"),
        );
    }
    page.line(0, "Addresses:");
    for address in array(&status["addresses"]) {
        page.field(1, text(&address["type"]), text(&address["address"]));
    }
    for (title, field) in [("Capacity", "capacity"), ("Allocatable", "allocatable")] {
        page.line(0, format!("{title}:"));
        for (name, quantity) in status[field].as_object().into_iter().flatten() {
            page.field(1, name, scalar(quantity).unwrap_or_default());
        }
    }
    page.line(0, "System Info:");
    let info = [
        ("Machine ID", "machineID"),
        ("System UUID", "systemUUID"),
        ("Boot ID", "bootID"),
        ("Kernel Version", "kernelVersion"),
        ("OS Image", "osImage"),
        ("Operating System", "operatingSystem"),
        ("Architecture", "architecture"),
        ("Container Runtime Version", "containerRuntimeVersion"),
        ("Kubelet Version", "kubeletVersion"),
    ];
    for (title, field) in info {
        page.field(1, title, text(&status["nodeInfo"][field]));
    }
    page.optional(0, "PodCIDR", &spec["podCIDR"]);
    let cidrs: Vec<&str> = array(&spec["podCIDRs"]).iter().map(text).collect();
    if !cidrs.is_empty() {
        page.field(0, "PodCIDRs", cidrs.join(","));
    }
    write_pods(page, facts);
}

fn roles(labels: &Value) -> String {
    const PREFIX: &str = "node-role.kubernetes.io/";
    let roles: Vec<&str> = labels
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(key, _)| key.strip_prefix(PREFIX))
        .collect();
    if roles.is_empty() {
        "<none>".to_owned()
    } else {
        roles.join(",")
    }
}

fn write_pods(page: &mut Page, facts: &Facts<'_>) {
    page.line(0, format!("Non-terminated Pods:\t({} in total)", facts.pods.len()));
    page.line(
        1,
        "Namespace\tName\tCPU Requests\tCPU Limits\tMemory Requests\tMemory Limits\tAge",
    );
    page.line(
        1,
        "---------\t----\t------------\t----------\t---------------\t-------------\t---",
    );
    let allocatable = &facts.object["status"]["allocatable"];
    for pod in facts.pods {
        let sum = |field: &str, resource: &str| total(std::slice::from_ref(pod), field, resource, allocatable);
        page.line(
            1,
            [
                text(&pod["metadata"]["namespace"]),
                text(&pod["metadata"]["name"]),
                &sum("requests", "cpu"),
                &sum("limits", "cpu"),
                &sum("requests", "memory"),
                &sum("limits", "memory"),
                &age(&pod["metadata"]["creationTimestamp"], facts.now),
            ]
            .join("\t"),
        );
    }
    page.line(0, "Allocated resources:");
    page.line(1, "(Total limits may be over 100 percent, i.e., overcommitted.)");
    page.line(1, "Resource\tRequests\tLimits");
    page.line(1, "--------\t--------\t------");
    for resource in ["cpu", "memory", "ephemeral-storage"] {
        page.line(
            1,
            format!(
                "{resource}\t{}\t{}",
                total(facts.pods, "requests", resource, allocatable),
                total(facts.pods, "limits", resource, allocatable)
            ),
        );
    }
}

/// What the containers of some pods ask for together, and how much of the node that is.
fn total(pods: &[Value], field: &str, resource: &str, allocatable: &Value) -> String {
    let parse = |quantity: &Value| quantity.as_str()?.parse::<Quantity>().ok();
    let sum: Quantity = pods
        .iter()
        .flat_map(|pod| array(&pod["spec"]["containers"]))
        .filter_map(|container| parse(&container["resources"][field][resource]))
        .sum();
    let whole = parse(&allocatable[resource]).map_or(0, Quantity::millis);
    let percent = i128::from(sum.millis()) * 100 / i128::from(whole.max(1));
    format!("{sum} ({}%)", if whole > 0 { percent } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn sums_are_shares_of_the_node() {
        let pods = [json!({"spec": {"containers": [
            {"resources": {"requests": {"cpu": "250m"}}}, {"resources": {"requests": {"cpu": "250m"}}}, {}]}})];
        let allocatable = json!({"cpu": "2", "memory": "4Gi"});
        assert_eq!(total(&pods, "requests", "cpu", &allocatable), "500m (25%)");
        assert_eq!(total(&pods, "limits", "memory", &allocatable), "0 (0%)");
        assert_eq!(total(&pods, "requests", "cpu", &json!({})), "500m (0%)");
    }
}
