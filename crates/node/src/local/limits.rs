//! Granting CPU and memory, and changing the limits of containers that run.
//!
//! A pod's group bounds its containers', and neither kernel interface takes a bound below what is inside. So the pod's grows
//! first and shrinks last, when nothing below it, running or about to be started again, has more.

use super::LocalMachine;
use crate::layout::{Layout, PodKey};
use crate::machine::Changed;
use crate::record;
use crate::resize::{Granted, Verdict};
use crate::resources;
use crate::runtime::wasm;
use crate::world::RestartPolicy;
use catamaran_shim::cgroup::Cgroup;
use catamaran_shim::spec::WasmSpec;
use k8s_openapi::api::core::v1::{Container, Pod};
use std::sync::Arc;

/// By name and id.
type Running = [(String, String)];

pub(super) async fn grant(machine: &LocalMachine, pod: &Arc<Pod>, running: &Running) -> Verdict {
    let (layout, grants) = (machine.layout().clone(), machine.grants.clone());
    let (allocatable, pod, running) = (machine.parts.allocatable.clone(), pod.clone(), running.to_vec());
    let work = move || {
        let Some(key) = PodKey::of(&pod) else {
            return Verdict::Fits;
        };
        match must_not_restart(&layout, &key, &pod, &running) {
            Some(message) => Verdict::Infeasible(message),
            None => grants.ask(&key.uid, Granted::resized(&pod), &allocatable),
        }
    };
    let judged = tokio::task::spawn_blocking(work).await;
    judged.unwrap_or_else(|error| Verdict::Deferred(error.to_string()))
}

/// Why a pod whose containers are never started again cannot have this.
fn must_not_restart(layout: &Layout, key: &PodKey, pod: &Pod, running: &Running) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    if RestartPolicy::parse(spec.restart_policy.as_deref()) != RestartPolicy::Never {
        return None;
    }
    let fixed = running.iter().find(|(name, id)| {
        let container = spec.containers.iter().find(|container| container.name == *name);
        container.is_some_and(|container| has_other_memory(layout, key, id, container))
    });
    fixed.map(|(name, _)| {
        format!(
            "the memory limit of WebAssembly container \"{name}\" is fixed when it starts, and restartPolicy is Never"
        )
    })
}

/// See [`crate::machine::Machine::resize`].
pub(super) async fn change(
    layout: &Layout,
    pod: &Arc<Pod>,
    room: &Arc<Pod>,
    containers: &Running,
) -> Result<Changed, String> {
    let (layout, pod, room, containers) = (layout.clone(), pod.clone(), room.clone(), containers.to_vec());
    let work = move || {
        let Some((key, spec)) = PodKey::of(&pod).zip(pod.spec.as_ref()) else {
            return Ok(Changed::default());
        };
        bound(&layout, &key, &room)?;
        let mut done = Changed::default();
        for (name, id) in containers {
            let Some(container) = spec.containers.iter().find(|container| container.name == name) else {
                continue;
            };
            if has_other_memory(&layout, &key, &id, container) {
                done.restarts.push(name);
                continue;
            }
            match change_one(&layout, &key, &id, container) {
                Ok(()) => done.changed.push(name),
                Err(message) => drop(done.error.get_or_insert(message)),
            }
        }
        Ok(done)
    };
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| error.to_string())?
}

/// See [`crate::machine::Machine::settle`].
pub(super) async fn settle(machine: &LocalMachine, pod: &Arc<Pod>) -> Result<(), String> {
    let (layout, grants, pod) = (machine.layout().clone(), machine.grants.clone(), pod.clone());
    let work = move || {
        let Some(key) = PodKey::of(&pod) else { return Ok(()) };
        bound(&layout, &key, &pod)?;
        let concluded = grants.conclude(&key.uid);
        concluded.map_err(|error| format!("cannot note that a resize is in force: {error}"))
    };
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| error.to_string())?
}

/// Sets the limits of the pod as a whole.
fn bound(layout: &Layout, key: &PodKey, pod: &Pod) -> Result<(), String> {
    let limits = pod.spec.as_ref().map(resources::pod_resources).unwrap_or_default();
    let group = open(&layout.pod_cgroup(&key.uid))?;
    group.apply(&limits).map_err(|error| crate::chain(&error))
}

/// What is about to hold is noted before, and what does after: an agent that dies in between leaves no doubt that there is one.
fn change_one(layout: &Layout, key: &PodKey, id: &str, container: &Container) -> Result<(), String> {
    let own = open(&layout.container_cgroup(&key.uid, id))?;
    keeps_what_it_uses(&own, container)?;
    let wanted = container.resources.clone().unwrap_or_default();
    let unnoted = |error| format!("cannot note the limits of container \"{}\": {error}", container.name);
    layout
        .amend_container(&key.uid, id, |record| record.held.push(wanted.clone()))
        .map_err(unnoted)?;
    let limits = resources::container_resources(container);
    own.apply(&limits).map_err(|error| crate::chain(&error))?;
    layout
        .amend_container(&key.uid, id, |record| record.held = vec![wanted.clone()])
        .map_err(unnoted)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::RECORD;
    use crate::record::ContainerRecord;
    use serde_json::json;

    fn pod(policy: &str, limit: &str) -> Arc<Pod> {
        let resources = json!({"limits": {"memory": limit}});
        let containers = ["linux", "wasm"].map(|name| json!({"name": name, "resources": resources}));
        let meta = json!({"name": "p", "namespace": "ns", "uid": format!("test-of-limits-{}", std::process::id())});
        let spec = json!({"restartPolicy": policy, "containers": containers});
        Arc::new(serde_json::from_value(json!({"metadata": meta, "spec": spec})).expect("a pod"))
    }

    fn layout(pod: &Pod) -> (tempfile::TempDir, Layout, PodKey) {
        let directory = tempfile::tempdir().expect("a directory");
        let layout = Layout {
            data_dir: directory.path().to_owned(),
            run_dir: directory.path().to_owned(),
            instance: "none".to_owned(),
        };
        let key = PodKey::of(pod).expect("a key");
        for name in ["linux", "wasm"] {
            let bundle = layout.bundle(&key.uid, name);
            std::fs::create_dir_all(&bundle).expect("made");
            record::write(&bundle.join(RECORD), &ContainerRecord::default()).expect("written");
        }
        let spec = json!({"module": "m", "native": "n", "args": [], "env": [], "preopens": [], "cgroup": "/c", "resources": {},
            "memory_limit": 1, "uid": 0, "gid": 0, "http_port": 1, "seccomp": true, "container_name": "wasm"});
        record::write(&layout.bundle(&key.uid, "wasm").join("wasm.json"), &spec).expect("written");
        (directory, layout, key)
    }

    fn running() -> [(String, String); 2] {
        ["linux", "wasm"].map(|name| (name.to_owned(), name.to_owned()))
    }

    #[test]
    fn a_guest_that_is_never_started_again_keeps_its_memory() {
        let (once, always) = (pod("Never", "64Mi"), pod("Always", "64Mi"));
        let (_directory, layout, key) = layout(&once);
        let refusal = must_not_restart(&layout, &key, &once, &running());
        assert!(refusal.is_some_and(|message| message.contains("\"wasm\"")));
        assert_eq!(must_not_restart(&layout, &key, &once, &running()[..1]), None);
        assert_eq!(must_not_restart(&layout, &key, &always, &running()), None);
    }

    /// Nothing of the pod runs: there is nothing to change, and that is no error.
    #[tokio::test]
    async fn what_is_changed_is_noted_and_what_cannot_be_is_named() {
        let pod = pod("Always", "64Mi");
        let (_directory, layout, key) = layout(&pod);
        let done = change(&layout, &pod, &pod, &running()).await;
        let expected = Changed {
            changed: vec!["linux".to_owned()],
            restarts: vec!["wasm".to_owned()],
            error: None,
        };
        assert_eq!(done, Ok(expected));
        let held = |id: &str| layout.container_record(&key.uid, id).expect("a record").held;
        let granted = Granted::of(&pod);
        assert_eq!(held("linux"), [granted.containers["linux"].clone()]);
        assert_eq!(held("wasm"), []);
    }
}
