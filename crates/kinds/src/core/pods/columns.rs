//! The table of pods: one word for the state of a pod, as `kubectl` users know it.

use crate::{age, name};
use catamaran_api::table::{self, Column};
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod, PodSpec, PodStatus};
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

pub(super) const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::string("Ready", "Ready containers of all."),
    Column::string("Status", "The state of the pod, or of the container that explains it."),
    Column::string("Restarts", "How often containers were restarted, and when last."),
    Column::AGE,
    Column::string("IP", "Address of the pod.").wide(),
    Column::string("Node", "Node that the pod is bound to.").wide(),
    Column::string("Nominated Node", "Node on which room is being made for the pod.").wide(),
    Column::string("Readiness Gates", "Readiness gates that are true, of all.").wide(),
];

pub(super) fn row(pod: &Pod, now: Timestamp) -> Vec<Value> {
    let (no_spec, no_status) = (PodSpec::default(), PodStatus::default());
    let spec = pod.spec.as_ref().unwrap_or(&no_spec);
    let status = pod.status.as_ref().unwrap_or(&no_status);
    let summary = summarize(pod, spec, status);
    let restarts = match summary.last_restart {
        Some(last) if summary.restarts > 0 => format!("{} ({} ago)", summary.restarts, table::age(last, now)),
        _ => summary.restarts.to_string(),
    };
    let or_none =
        |text: Option<&String>| Value::from(text.filter(|text| !text.is_empty()).map_or("<none>", String::as_str));
    let ip = status
        .pod_ips
        .iter()
        .flatten()
        .map(|ip| &ip.ip)
        .next()
        .or(status.pod_ip.as_ref());
    vec![
        name(&pod.metadata),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.reason.into(),
        restarts.into(),
        age(&pod.metadata, now),
        or_none(ip),
        or_none(spec.node_name.as_ref()),
        or_none(status.nominated_node_name.as_ref()),
        gates(spec, status).into(),
    ]
}

#[derive(Default)]
struct Summary {
    reason: String,
    ready: usize,
    total: usize,
    restarts: i32,
    last_restart: Option<Timestamp>,
}

impl Summary {
    fn count_restarts(&mut self, container: &ContainerStatus) {
        self.restarts += container.restart_count;
        let ended = container
            .last_state
            .as_ref()
            .and_then(|state| state.terminated.as_ref());
        let ended = ended
            .and_then(|terminated| terminated.finished_at.as_ref())
            .map(|time| time.0);
        self.last_restart = self.last_restart.max(ended);
    }
}

fn summarize(pod: &Pod, spec: &PodSpec, status: &PodStatus) -> Summary {
    let phase = status.phase.as_deref().unwrap_or_default();
    let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let mut summary = Summary {
        reason: text(&status.reason).unwrap_or_else(|| phase.to_owned()),
        total: spec.containers.len() + sidecars(spec).count(),
        ..Default::default()
    };
    if condition(status, "PodScheduled").is_some_and(|(_, reason)| reason == "SchedulingGated") {
        "SchedulingGated".clone_into(&mut summary.reason);
    }
    let mut of_sidecars = Summary::default();
    let initializing = initialization(spec, status, &mut summary, &mut of_sidecars);
    if !initializing || condition(status, "Initialized").is_some_and(|(value, _)| value == "True") {
        summary.restarts = of_sidecars.restarts;
        summary.last_restart = of_sidecars.last_restart;
        containers(status, &mut summary);
    }
    if pod.metadata.deletion_timestamp.is_some() {
        if status.reason.as_deref() == Some("NodeLost") {
            "Unknown".clone_into(&mut summary.reason);
        } else if !matches!(phase, "Succeeded" | "Failed") {
            "Terminating".clone_into(&mut summary.reason);
        }
    }
    summary
}

fn sidecars(spec: &PodSpec) -> impl Iterator<Item = &str> {
    let init = spec.init_containers.iter().flatten();
    init.filter(|container| container.restart_policy.as_deref() == Some("Always"))
        .map(|container| container.name.as_str())
}

/// Looks for the first init container that is not done; says whether there is one.
fn initialization(spec: &PodSpec, status: &PodStatus, summary: &mut Summary, of_sidecars: &mut Summary) -> bool {
    let total = spec.init_containers.as_ref().map_or(0, Vec::len);
    for (index, container) in status.init_container_statuses.iter().flatten().enumerate() {
        summary.count_restarts(container);
        let is_sidecar = sidecars(spec).any(|name| name == container.name);
        if is_sidecar {
            of_sidecars.count_restarts(container);
        }
        let state = container.state.clone().unwrap_or_default();
        if state
            .terminated
            .as_ref()
            .is_some_and(|terminated| terminated.exit_code == 0)
        {
            continue;
        }
        if is_sidecar && container.started == Some(true) {
            summary.ready += usize::from(container.ready);
            continue;
        }
        let detail = if state.terminated.is_some() {
            explain(&state)
        } else {
            waiting_reason(&state)
                .filter(|reason| *reason != "PodInitializing")
                .map(ToOwned::to_owned)
        };
        let detail = detail.unwrap_or_else(|| format!("{index}/{total}"));
        summary.reason = format!("Init:{detail}");
        return true;
    }
    false
}

/// The first container that has something to say speaks for the pod.
fn containers(status: &PodStatus, summary: &mut Summary) {
    let mut has_running = false;
    for container in status.container_statuses.iter().flatten().rev() {
        summary.count_restarts(container);
        let state = container.state.clone().unwrap_or_default();
        if let Some(reason) = explain(&state) {
            summary.reason = reason;
        } else if container.ready && state.running.is_some() {
            has_running = true;
            summary.ready += 1;
        }
    }
    if summary.reason == "Completed" && has_running {
        let ready = condition(status, "Ready").is_some_and(|(value, _)| value == "True");
        summary.reason = if ready { "Running" } else { "NotReady" }.to_owned();
    }
}

fn waiting_reason(state: &ContainerState) -> Option<&str> {
    state
        .waiting
        .as_ref()?
        .reason
        .as_deref()
        .filter(|reason| !reason.is_empty())
}

/// Why a container is not running.
fn explain(state: &ContainerState) -> Option<String> {
    if let Some(reason) = waiting_reason(state) {
        return Some(reason.to_owned());
    }
    let terminated = state.terminated.as_ref()?;
    Some(match (terminated.reason.as_deref(), terminated.signal) {
        (Some(reason), _) if !reason.is_empty() => reason.to_owned(),
        (_, Some(signal)) if signal != 0 => format!("Signal:{signal}"),
        _ => format!("ExitCode:{}", terminated.exit_code),
    })
}

fn condition<'s>(status: &'s PodStatus, kind: &str) -> Option<(&'s str, &'s str)> {
    let found = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == kind)?;
    Some((&found.status, found.reason.as_deref().unwrap_or_default()))
}

fn gates(spec: &PodSpec, status: &PodStatus) -> String {
    let gates = spec.readiness_gates.as_deref().unwrap_or_default();
    if gates.is_empty() {
        return "<none>".to_owned();
    }
    let is_true = |kind: &str| condition(status, kind).is_some_and(|(value, _)| value == "True");
    let open = gates.iter().filter(|gate| is_true(&gate.condition_type)).count();
    format!("{open}/{}", gates.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use serde_json::json;

    fn check(pods: &[Value], expected: &Expect) {
        let now: Timestamp = "2026-01-01T01:00:00Z".parse().unwrap();
        let lines: Vec<String> = pods
            .iter()
            .map(|pod| {
                let cells = row(&serde_json::from_value(pod.clone()).unwrap(), now);
                cells
                    .iter()
                    .map(|cell| cell.as_str().unwrap())
                    .collect::<Vec<_>>()
                    .join(" | ")
            })
            .collect();
        expected.assert_eq(&lines.join("\n"));
    }

    #[allow(clippy::needless_pass_by_value, reason = "literals read best in place")]
    fn pod(status: Value) -> Value {
        json!({"metadata": {"name": "p", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}, {"name": "j"}]}, "status": status})
    }

    #[allow(clippy::needless_pass_by_value, reason = "literals read best in place")]
    fn state(name: &str, state: Value) -> Value {
        let ready = state.get("running").is_some();
        json!({"name": name, "state": state, "ready": ready, "restartCount": 0, "image": "", "imageID": ""})
    }

    #[test]
    fn the_word_for_each_state() {
        let running = |name: &str| state(name, json!({"running": {}}));
        let waiting = |name: &str, reason: &str| state(name, json!({"waiting": {"reason": reason}}));
        let ended = |name: &str, code: i32, reason: &str| {
            state(name, json!({"terminated": {"exitCode": code, "reason": reason}}))
        };
        let mut crashing = waiting("a", "CrashLoopBackOff");
        crashing["restartCount"] = 3.into();
        crashing["lastState"] = json!({"terminated": {"exitCode": 1, "finishedAt": "2026-01-01T00:55:00Z"}});
        let mut deleted = pod(json!({"phase": "Running", "containerStatuses": [running("a"), running("b")]}));
        deleted["metadata"]["deletionTimestamp"] = "2026-01-01T00:59:00Z".into();
        let mut placed = pod(
            json!({"phase": "Running", "podIP": "10.0.0.2", "podIPs": [{"ip": "10.0.0.2"}],
            "conditions": [{"type": "x/y", "status": "True"}], "containerStatuses": [running("a"), running("b")]}),
        );
        placed["spec"]["nodeName"] = "n1".into();
        placed["spec"]["readinessGates"] = json!([{"conditionType": "x/y"}, {"conditionType": "x/z"}]);
        check(
            &[
                pod(json!({"phase": "Pending"})),
                pod(
                    json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]}),
                ),
                pod(json!({"phase": "Pending", "initContainerStatuses": [waiting("i", "PodInitializing")]})),
                pod(json!({"phase": "Pending", "initContainerStatuses": [ended("i", 0, "Completed"), running("j")]})),
                pod(json!({"phase": "Pending", "initContainerStatuses": [ended("i", 3, "Error")]})),
                pod(json!({"phase": "Pending", "initContainerStatuses": [ended("i", 3, "")]})),
                pod(json!({"phase": "Pending", "initContainerStatuses": [waiting("i", "ImagePullBackOff")]})),
                pod(
                    json!({"phase": "Pending", "containerStatuses": [waiting("a", "ContainerCreating"), running("b")]}),
                ),
                pod(json!({"phase": "Running", "containerStatuses": [crashing, running("b")]})),
                pod(json!({"phase": "Running", "containerStatuses": [ended("a", 0, "Completed"), running("b")]})),
                pod(
                    json!({"phase": "Succeeded", "containerStatuses": [ended("a", 0, "Completed"), ended("b", 0, "Completed")]}),
                ),
                pod(
                    json!({"phase": "Failed", "containerStatuses": [ended("a", 137, "OOMKilled"), ended("b", 0, "Completed")]}),
                ),
                pod(json!({"phase": "Failed", "reason": "Evicted"})),
                deleted,
                placed,
            ],
            &expect![[r#"
                p | 0/2 | Pending | 0 | 60m | <none> | <none> | <none> | <none>
                p | 0/2 | SchedulingGated | 0 | 60m | <none> | <none> | <none> | <none>
                p | 0/2 | Init:0/2 | 0 | 60m | <none> | <none> | <none> | <none>
                p | 0/2 | Init:1/2 | 0 | 60m | <none> | <none> | <none> | <none>
                p | 0/2 | Init:Error | 0 | 60m | <none> | <none> | <none> | <none>
                p | 0/2 | Init:ExitCode:3 | 0 | 60m | <none> | <none> | <none> | <none>
                p | 0/2 | Init:ImagePullBackOff | 0 | 60m | <none> | <none> | <none> | <none>
                p | 1/2 | ContainerCreating | 0 | 60m | <none> | <none> | <none> | <none>
                p | 1/2 | CrashLoopBackOff | 3 (5m ago) | 60m | <none> | <none> | <none> | <none>
                p | 1/2 | NotReady | 0 | 60m | <none> | <none> | <none> | <none>
                p | 0/2 | Completed | 0 | 60m | <none> | <none> | <none> | <none>
                p | 0/2 | OOMKilled | 0 | 60m | <none> | <none> | <none> | <none>
                p | 0/2 | Evicted | 0 | 60m | <none> | <none> | <none> | <none>
                p | 2/2 | Terminating | 0 | 60m | <none> | <none> | <none> | <none>
                p | 2/2 | Running | 0 | 60m | 10.0.0.2 | n1 | <none> | 1/2"#]],
        );
    }
}
