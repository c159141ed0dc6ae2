//! What `cata dev` shows of the pods it applied: progress from their status, then every container's log.

use crate::apply::Applied;
use anyhow::Result;
use futures::{AsyncBufReadExt, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::api::LogParams;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use std::collections::BTreeMap;
use std::path::Path;
use std::pin::pin;
use tokio::task::JoinSet;

pub(crate) struct Follow {
    client: Client,
    /// (namespace, name)
    pods: Vec<(String, String)>,
}

impl Follow {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            pods: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, applied: &Applied) {
        if applied.kind == "Pod" {
            self.pods
                .push((applied.namespace.clone().unwrap_or_default(), applied.name.clone()));
        }
    }

    /// Shows pods until they are gone. `hints` adds what to try next, once.
    pub(crate) async fn run(self, kubeconfig: &Path, hints: bool) -> Result<()> {
        let mut shown = JoinSet::new();
        for (index, (namespace, name)) in self.pods.into_iter().enumerate() {
            let hints = (hints && index == 0).then(|| kubeconfig.to_owned());
            shown.spawn(show_pod(Api::namespaced(self.client.clone(), &namespace), name, hints));
        }
        while let Some(ended) = shown.join_next().await {
            ended??;
        }
        Ok(())
    }
}

async fn show_pod(pods: Api<Pod>, name: String, hints: Option<std::path::PathBuf>) -> Result<()> {
    let mut changes = pin!(watcher::watch_object(pods.clone(), &name).default_backoff());
    let mut logs = JoinSet::new();
    let mut following = BTreeMap::new();
    let mut last_line = String::new();
    let mut hints = hints;
    while let Some(pod) = changes.next().await {
        let Ok(Some(pod)) = pod else { continue };
        let line = progress(&pod);
        if line != last_line {
            println!("pod/{name}: {line}");
            last_line = line;
        }
        for (container, starts) in started_containers(&pod) {
            if following.insert(container.clone(), starts) != Some(starts) {
                logs.spawn(show_log(pods.clone(), name.clone(), container));
            }
        }
        if is_ready(&pod)
            && let Some(kubeconfig) = hints.take()
        {
            print_hints(&name, &pod, &kubeconfig);
        }
    }
    Ok(())
}

/// Containers that run, or did, with how often they were started before.
fn started_containers(pod: &Pod) -> Vec<(String, i32)> {
    container_statuses(pod)
        .filter(|status| {
            status
                .state
                .as_ref()
                .is_some_and(|state| state.running.is_some() || state.terminated.is_some())
        })
        .map(|status| (status.name.clone(), status.restart_count))
        .collect()
}

fn container_statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    pod.status.iter().flat_map(|status| {
        status
            .init_container_statuses
            .iter()
            .flatten()
            .chain(status.container_statuses.iter().flatten())
    })
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// One line about where the pod stands, worded like kubectl's STATUS column.
fn progress(pod: &Pod) -> String {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or("Pending");
    let (mut ready, mut total, mut waiting) = (0, 0, None);
    for status in container_statuses(pod) {
        total += 1;
        ready += i32::from(status.ready);
        let reason = status.state.as_ref().and_then(|state| state.waiting.as_ref());
        if let Some(reason) = reason.filter(|waiting| waiting.reason.is_some()) {
            let detail = reason
                .message
                .as_deref()
                .map(|message| format!(": {message}"))
                .unwrap_or_default();
            waiting = Some(format!("{}{detail}", reason.reason.as_deref().unwrap_or_default()));
        }
    }
    match waiting {
        Some(waiting) => format!("{phase} {ready}/{total} ({waiting})"),
        None if total > 0 => format!("{phase} {ready}/{total}"),
        None => phase.to_owned(),
    }
}

async fn show_log(pods: Api<Pod>, pod: String, container: String) {
    let params = LogParams {
        container: Some(container.clone()),
        follow: true,
        ..LogParams::default()
    };
    let lines = match pods.log_stream(&pod, &params).await {
        Ok(stream) => stream.lines(),
        Err(error) => {
            eprintln!("[{pod}/{container}] the log cannot be read: {error}");
            return;
        }
    };
    let mut lines = pin!(lines);
    while let Ok(Some(line)) = lines.try_next().await {
        println!("[{pod}/{container}] {line}");
    }
}

fn print_hints(name: &str, pod: &Pod, kubeconfig: &Path) {
    let ip = pod
        .status
        .as_ref()
        .and_then(|status| status.pod_ip.as_deref())
        .unwrap_or("?");
    let port = pod.spec.iter().flat_map(|spec| &spec.containers).find_map(|container| {
        container
            .ports
            .as_deref()
            .and_then(|ports| ports.first())
            .map(|port| port.container_port)
    });
    println!();
    if let Some(port) = port {
        println!("  pod {name} answers at   http://{ip}:{port}/");
    }
    println!("  look around with        export KUBECONFIG={}", kubeconfig.display());
    println!("                          kubectl get pods -o wide    (or: cata get pods -o wide)");
    println!("  stop with Ctrl-C\n");
}
