//! Changing the limits of containers that run, and remembering that they were changed.

use crate::layout::{Layout, PodKey};
use crate::record::{self, PodRecord};
use crate::resources;
use crate::runtime::wasm;
use catamaran_shim::cgroup::Cgroup;
use catamaran_shim::spec::WasmSpec;
use k8s_openapi::api::core::v1::{Container, Pod};
use std::sync::Arc;

/// Writes the pod, as it was granted, where the next agent looks for it.
pub(super) async fn note(layout: &Layout, pod: Arc<Pod>) {
    let Some(key) = PodKey::of(&pod) else { return };
    let path = layout.record(&key.uid);
    let write = move || {
        // Without a record there is no sandbox: making one writes it.
        let Some(mut record) = record::read::<PodRecord>(&path) else {
            return Ok(());
        };
        record.pod = Pod::clone(&pod);
        record::write(&path, &record)
    };
    let written = tokio::task::spawn_blocking(write).await.unwrap_or(Ok(()));
    if let Err(error) = written {
        tracing::warn!(pod = key.uid, %error, "cannot note what a pod was granted; the next agent will ask again");
    }
}

/// Sets the limits of containers and of the pod. The pod's come first and last: what grows needs room above it, and what shrinks
/// leaves room.
pub(super) async fn change(
    layout: &Layout,
    pod: Arc<Pod>,
    containers: Vec<(String, String)>,
) -> Result<Vec<String>, String> {
    let layout = layout.clone();
    let work = move || {
        let (Some(key), Some(spec)) = (PodKey::of(&pod), &pod.spec) else {
            return Ok(Vec::new());
        };
        let all = resources::pod_resources(spec);
        let group = open(&layout.pod_cgroup(&key.uid))?;
        let mut restarts = Vec::new();
        let mut changes = Vec::new();
        for (name, id) in containers {
            let Some(container) = spec.containers.iter().find(|container| container.name == name) else {
                continue;
            };
            if has_other_memory(&layout, &key, &id, container) {
                restarts.push(name);
                continue;
            }
            let own = open(&layout.container_cgroup(&key.uid, &id))?;
            keeps_what_it_uses(&own, container)?;
            changes.push((own, resources::container_resources(container)));
        }
        // Fails where something below has more than this: the second time it has not.
        let _ = group.apply(&all);
        for (own, limits) in changes {
            own.apply(&limits).map_err(|error| crate::chain(&error))?;
        }
        group.apply(&all).map_err(|error| crate::chain(&error))?;
        Ok(restarts)
    };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| error.to_string())?
}

fn open(path: &str) -> Result<Cgroup, String> {
    Cgroup::open(path).map_err(|error| crate::chain(&error))
}

/// A wasm guest meets its own limit before the cgroup's, and that is fixed when it starts.
fn has_other_memory(layout: &Layout, key: &PodKey, id: &str, container: &Container) -> bool {
    let spec = record::read::<WasmSpec>(&layout.bundle(&key.uid, id).join("wasm.json"));
    spec.is_some_and(|spec| spec.memory_limit != wasm::memory_limit(container))
}

/// A limit below what is in use would have the kernel kill for it.
fn keeps_what_it_uses(group: &Cgroup, container: &Container) -> Result<(), String> {
    let Some(limit) = resources::memory_limit(container).and_then(|limit| u64::try_from(limit).ok()) else {
        return Ok(());
    };
    let used = group.stats().memory_usage;
    if limit >= used {
        return Ok(());
    }
    Err(format!(
        "cannot decrease memory limits: attempting to set container \"{}\" memory limit ({limit}) below current usage ({used})",
        container.name
    ))
}
