//! The page of a pod.

use super::{Facts, Page, array, scalar, text, time};
use serde_json::Value;

pub(super) fn write(page: &mut Page, facts: &Facts<'_>) {
    let pod = facts.object;
    let (metadata, spec, status) = (&pod["metadata"], &pod["spec"], &pod["status"]);
    page.field(0, "Name", text(&metadata["name"]));
    page.field(0, "Namespace", text(&metadata["namespace"]));
    page.optional(
        0,
        "Priority",
        if spec["priority"].is_null() {
            &Value::Null
        } else {
            &spec["priority"]
        },
    );
    page.optional(0, "Runtime Class Name", &spec["runtimeClassName"]);
    page.field(0, "Service Account", text(&spec["serviceAccountName"]));
    let node = match (text(&spec["nodeName"]), text(&status["hostIP"])) {
        ("", _) => "<none>".to_owned(),
        (node, ip) => format!("{node}/{ip}"),
    };
    page.field(0, "Node", node);
    if status["startTime"].is_string() {
        page.field(0, "Start Time", time(&status["startTime"]));
    }
    page.map(0, "Labels", &metadata["labels"], "=");
    page.map(0, "Annotations", &metadata["annotations"], ": ");
    if metadata["deletionTimestamp"].is_string() {
        let lasts = super::age(&metadata["deletionTimestamp"], facts.now);
        page.field(0, "Status", format!("Terminating (lasts {lasts})"));
        page.optional(
            0,
            "Termination Grace Period",
            &grace(&metadata["deletionGracePeriodSeconds"]),
        );
    } else {
        page.field(0, "Status", text(&status["phase"]));
    }
    page.optional(0, "Reason", &status["reason"]);
    page.optional(0, "Message", &status["message"]);
    page.field(0, "IP", text(&status["podIP"]));
    let ips = array(&status["podIPs"]);
    if ips.is_empty() {
        page.field(0, "IPs", "<none>");
    } else {
        page.line(0, "IPs:");
        ips.iter().for_each(|ip| page.field(1, "IP", text(&ip["ip"])));
    }
    let groups = [
        ("Init Containers", "initContainers", "initContainerStatuses"),
        ("Containers", "containers", "containerStatuses"),
        (
            "Ephemeral Containers",
            "ephemeralContainers",
            "ephemeralContainerStatuses",
        ),
    ];
    for (title, containers, statuses) in groups {
        let containers = array(&spec[containers]);
        if containers.is_empty() {
            continue;
        }
        page.line(0, format!("{title}:"));
        for container in containers {
            let found = array(&status[statuses])
                .iter()
                .find(|status| status["name"] == container["name"]);
            write_container(page, container, found.unwrap_or(&Value::Null));
        }
    }
    write_conditions(page, array(&status["conditions"]));
    write_volumes(page, array(&spec["volumes"]));
    page.optional(0, "QoS Class", &status["qosClass"]);
    page.map(0, "Node-Selectors", &spec["nodeSelector"], "=");
    page.list(
        0,
        "Tolerations",
        &array(&spec["tolerations"]).iter().map(toleration).collect::<Vec<_>>(),
    );
}

fn grace(seconds: &Value) -> Value {
    seconds
        .as_i64()
        .map_or(Value::Null, |seconds| format!("{seconds}s").into())
}

fn write_container(page: &mut Page, container: &Value, status: &Value) {
    page.line(1, format!("{}:", text(&container["name"])));
    page.field(2, "Container ID", text(&status["containerID"]));
    page.field(2, "Image", text(&container["image"]));
    page.field(2, "Image ID", text(&status["imageID"]));
    let ports: Vec<String> = array(&container["ports"])
        .iter()
        .map(|port| {
            let name = scalar(&port["name"])
                .map(|name| format!(" ({name})"))
                .unwrap_or_default();
            format!("{}/{}{name}", port["containerPort"], text(&port["protocol"]))
        })
        .collect();
    page.field(
        2,
        if ports.len() > 1 { "Ports" } else { "Port" },
        if ports.is_empty() {
            "<none>".into()
        } else {
            ports.join(", ")
        },
    );
    let host_ports: Vec<String> = array(&container["ports"])
        .iter()
        .map(|port| {
            let number = port["hostPort"].as_u64().unwrap_or(0);
            format!("{number}/{}", text(&port["protocol"]))
        })
        .collect();
    let (title, value) = match host_ports.len() {
        0 => ("Host Port", "<none>".to_owned()),
        1 => ("Host Port", host_ports.concat()),
        _ => ("Host Ports", host_ports.join(", ")),
    };
    page.field(2, title, value);
    for (title, field) in [("Command", "command"), ("Args", "args")] {
        let words = array(&container[field]);
        if !words.is_empty() {
            page.line(2, format!("{title}:"));
            words
                .iter()
                .flat_map(|word| text(word).lines())
                .for_each(|line| page.line(3, line));
        }
    }
    if status.is_object() {
        write_state(page, "State", &status["state"]);
        if status["lastState"].as_object().is_some_and(|state| !state.is_empty()) {
            write_state(page, "Last State", &status["lastState"]);
        }
        page.field(2, "Ready", if status["ready"] == true { "True" } else { "False" });
        page.field(2, "Restart Count", status["restartCount"].to_string());
    }
    for (title, field) in [("Limits", "limits"), ("Requests", "requests")] {
        let quantities = container["resources"][field].as_object();
        if let Some(quantities) = quantities.filter(|quantities| !quantities.is_empty()) {
            page.line(2, format!("{title}:"));
            quantities
                .iter()
                .for_each(|(name, quantity)| page.field(3, name, scalar(quantity).unwrap_or_default()));
        }
    }
    write_environment(page, container);
    let mounts = array(&container["volumeMounts"]);
    page.line(
        2,
        if mounts.is_empty() {
            "Mounts:\t<none>"
        } else {
            "Mounts:"
        },
    );
    for mount in mounts {
        let access = if mount["readOnly"] == true { "ro" } else { "rw" };
        let path = scalar(&mount["subPath"])
            .map(|path| format!(",path={path:?}"))
            .unwrap_or_default();
        page.line(
            3,
            format!(
                "{} from {} ({access}{path})",
                text(&mount["mountPath"]),
                text(&mount["name"])
            ),
        );
    }
}

fn write_state(page: &mut Page, title: &str, state: &Value) {
    let Some((name, details)) = state
        .as_object()
        .and_then(|state| state.iter().find(|(_, details)| details.is_object()))
    else {
        page.field(2, title, "Waiting");
        return;
    };
    let mut capital = name.clone();
    capital[..1].make_ascii_uppercase();
    page.field(2, title, capital);
    page.optional(3, "Reason", &details["reason"]);
    page.optional(3, "Message", &details["message"]);
    page.optional(3, "Exit Code", &details["exitCode"]);
    page.optional(3, "Signal", &details["signal"]);
    for (title, field) in [("Started", "startedAt"), ("Finished", "finishedAt")] {
        if details[field].is_string() {
            page.field(3, title, time(&details[field]));
        }
    }
}

fn write_environment(page: &mut Page, container: &Value) {
    let sources = array(&container["envFrom"]);
    if !sources.is_empty() {
        page.line(2, "Environment Variables from:");
        for source in sources {
            let (kind, reference) = match source["configMapRef"].is_object() {
                true => ("ConfigMap", &source["configMapRef"]),
                false => ("Secret", &source["secretRef"]),
            };
            let optional = reference["optional"] == true;
            page.line(3, format!("{}\t{kind}\tOptional: {optional}", text(&reference["name"])));
        }
    }
    let variables = array(&container["env"]);
    page.line(
        2,
        if variables.is_empty() {
            "Environment:\t<none>"
        } else {
            "Environment:"
        },
    );
    for variable in variables {
        let from = &variable["valueFrom"];
        let value = if let Some(path) = scalar(&from["fieldRef"]["fieldPath"]) {
            format!(
                " ({}:{path})",
                scalar(&from["fieldRef"]["apiVersion"]).unwrap_or("v1".into())
            )
        } else if let Some(resource) = scalar(&from["resourceFieldRef"]["resource"]) {
            format!(" ({resource})")
        } else if from["secretKeyRef"].is_object() {
            reference("secret", &from["secretKeyRef"])
        } else if from["configMapKeyRef"].is_object() {
            reference("config map", &from["configMapKeyRef"])
        } else {
            text(&variable["value"]).replace('\n', "\\n")
        };
        page.line(3, format!("{}:\t{value}", text(&variable["name"])));
    }
}

fn reference(kind: &str, key: &Value) -> String {
    let optional = key["optional"] == true;
    format!(
        "<set to the key '{}' of {kind} '{}'>  Optional: {optional}",
        text(&key["key"]),
        text(&key["name"])
    )
}

fn write_conditions(page: &mut Page, conditions: &[Value]) {
    if conditions.is_empty() {
        return;
    }
    page.line(0, "Conditions:");
    page.line(1, "Type\tStatus");
    for condition in conditions {
        page.line(
            1,
            format!("{}\t{}", text(&condition["type"]), text(&condition["status"])),
        );
    }
}

fn write_volumes(page: &mut Page, volumes: &[Value]) {
    page.line(
        0,
        if volumes.is_empty() {
            "Volumes:\t<none>"
        } else {
            "Volumes:"
        },
    );
    for volume in volumes {
        page.line(1, format!("{}:", text(&volume["name"])));
        let source = volume.as_object().into_iter().flatten().find(|(key, _)| *key != "name");
        let Some((kind, source)) = source else { continue };
        let (title, fields): (&str, &[(&str, &str)]) = match kind.as_str() {
            "emptyDir" => (
                "EmptyDir (a temporary directory that shares a pod's lifetime)",
                &[("Medium", "medium"), ("SizeLimit", "sizeLimit")],
            ),
            "configMap" => (
                "ConfigMap (a volume populated by a ConfigMap)",
                &[("Name", "name"), ("Optional", "optional")],
            ),
            "secret" => (
                "Secret (a volume populated by a Secret)",
                &[("SecretName", "secretName"), ("Optional", "optional")],
            ),
            "hostPath" => (
                "HostPath (bare host directory volume)",
                &[("Path", "path"), ("HostPathType", "type")],
            ),
            other => (other, &[]),
        };
        page.field(2, "Type", title);
        for (name, field) in fields {
            let missing = if *name == "Optional" { "false" } else { "" };
            page.field(2, name, scalar(&source[*field]).unwrap_or_else(|| missing.to_owned()));
        }
    }
}

fn toleration(toleration: &Value) -> String {
    let mut line = text(&toleration["key"]).to_owned();
    if let Some(value) = scalar(&toleration["value"]) {
        line.push_str(&format!("={value}"));
    }
    if let Some(effect) = scalar(&toleration["effect"]) {
        line.push_str(&format!(":{effect}"));
    }
    if toleration["operator"] == "Exists" && toleration["value"].is_null() {
        line.push_str(if line.is_empty() { "op=Exists" } else { " op=Exists" });
    }
    if let Some(seconds) = toleration["tolerationSeconds"].as_i64() {
        line.push_str(&format!(" for {seconds}s"));
    }
    line
}
