//! Where a worker starts from: a pod never seen, a pod found running, or a pod whose processes are gone.
//!
//! | state directory | pod shim | API status        | then                                                       |
//! |-----------------|----------|-------------------|------------------------------------------------------------|
//! | there           | alive    | any               | its containers are taken over, pids and all                |
//! | there           | dead     | any               | what ended is known from exit files; the rest is unknown   |
//! | no record in it | alive    | any               | left alone until the API server says whose it is           |
//! | none            |          | Succeeded, Failed | nothing is run                                             |
//! | none            |          | other             | the machine rebooted, or the agent ended the pod: run again |

use crate::backoff::Backoff;
use crate::layout::{Layout, PodKey};
use crate::local::{LocalMachine, Sandboxed};
use crate::machine::SandboxUp;
use crate::record::{self, ContainerRecord, PodRecord};
use crate::resize::{Granted, Resizes};
use crate::rotate;
use crate::worker::Start;
use crate::world::{Attempt, Ended, Hold, RestartPolicy, Role, Sandbox, Slot, User, World};
use catamaran_api::unsupported;
use catamaran_shim::StateDir;
use catamaran_shim::client::{Error as ShimError, PodShim};
use catamaran_shim::spec::ContainerState;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStatus, LinuxContainerUser, Pod, PodStatus};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// What a state directory turned out to hold.
pub(crate) enum Found {
    Pod(Box<(PodKey, Start)>),
    /// Nothing usable: no record, so no container was ever started by this agent.
    Leftover(PodKey),
    /// A living shim that does not answer: left alone for now.
    Unreachable(PodKey),
}

/// Looks into one state directory.
pub(crate) async fn inspect(machine: &LocalMachine, dir: &StateDir, now: Timestamp) -> Found {
    let uid = dir
        .path()
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default()
        .to_owned();
    let path = machine.layout().record(&uid);
    let recorded = tokio::task::spawn_blocking(move || record::read::<PodRecord>(&path))
        .await
        .ok()
        .flatten();
    let connected = PodShim::connect(dir.path()).await;
    let recorded = recorded.filter(|record| record.pod.metadata.uid.as_deref() == Some(&*uid));
    let keyed = recorded
        .or_else(|| machine.recollect(&uid))
        .and_then(|record| Some((PodKey::of(&record.pod)?, record)));
    let Some((key, record)) = keyed else {
        let key = PodKey {
            namespace: String::new(),
            name: String::new(),
            uid,
        };
        // What lives was started by an agent that wrote a record: it is lost, the pod is not.
        return match connected {
            Ok(_) | Err(ShimError::Unreachable { .. }) => {
                tracing::warn!(pod = key.uid, "a pod runs whose record cannot be read");
                Found::Unreachable(key)
            }
            Err(_) => Found::Leftover(key),
        };
    };
    let (containers, up) = match connected {
        Ok((shim, events, containers)) => {
            machine.adopt(&uid, Sandboxed { shim, ip: record.ip });
            (
                containers,
                Some(SandboxUp {
                    ip: record.ip.into(),
                    events,
                }),
            )
        }
        Err(ShimError::Unreachable { source, .. }) => {
            tracing::warn!(pod = uid, error = %source, "a pod shim does not answer");
            return Found::Unreachable(key);
        }
        Err(_) => {
            let dir = dir.clone();
            (
                tokio::task::spawn_blocking(move || states_on_disk(&dir))
                    .await
                    .unwrap_or_default(),
                None,
            )
        }
    };
    let mut pod = record.pod;
    let granted = machine.grants.get(&uid).unwrap_or_else(|| Granted::of(&pod));
    let (mut world, resizes) = taken_over(machine.layout(), &key, &mut pod, granted, containers, now);
    if up.is_none() {
        world.lose_sandbox();
    }
    let pod = Arc::new(pod);
    let start_time = record.start_time;
    set_active_deadline(&mut world, &pod, start_time);
    let last_ip = Some(IpAddr::from(record.ip));
    Found::Pod(Box::new((
        key,
        Start {
            pod,
            world,
            resizes,
            sandbox: up,
            start_time,
            last_ip,
            adopted: true,
        },
    )))
}

/// The world of a pod whose sandbox is there with these containers. Brings `pod` up to date as far as its containers' records tell.
fn taken_over(
    layout: &Layout,
    key: &PodKey,
    pod: &mut Pod,
    granted: Granted,
    containers: Vec<ContainerState>,
    now: Timestamp,
) -> (World, Resizes) {
    let mut world = new_world(pod, now);
    world.sandbox = Sandbox::Ready;
    world.unintroduced = true;
    let mut resizes = Resizes::recovered(granted);
    let noted = take_over(layout, key, &mut world, containers);
    recognise(&noted, pod, &mut resizes);
    hold_unsupported(&mut world, pod);
    (world, resizes)
}

fn states_on_disk(dir: &StateDir) -> Vec<ContainerState> {
    let ids = dir.containers().unwrap_or_default();
    let with_exit = |id: String| {
        let mut state = dir.state(&id).ok().flatten()?;
        state.exit = state.exit.or_else(|| dir.exit(&id).ok().flatten());
        Some(state)
    };
    ids.into_iter().filter_map(with_exit).collect()
}

/// Sorts the containers of a sandbox into the pod's slots: the newest attempt is the current one. Returns what is noted of those.
fn take_over(
    layout: &Layout,
    key: &PodKey,
    world: &mut World,
    mut containers: Vec<ContainerState>,
) -> HashMap<String, ContainerRecord> {
    let mut noted = HashMap::new();
    let number = |state: &ContainerState| {
        state
            .config
            .log_path
            .as_deref()
            .and_then(crate::layout::attempt_of_log)
            .unwrap_or(0)
    };
    containers.sort_by_key(number);
    for state in containers {
        let found = world.slots.iter().position(|slot| slot.name == state.config.name);
        // The record is as old as the sandbox: what it does not know was added since.
        let index = found.unwrap_or_else(|| {
            world.slots.push(Slot::of(&state.config.name, Role::Ephemeral));
            world.slots.len() - 1
        });
        let slot = &mut world.slots[index];
        let record = layout.container_record(&key.uid, &state.config.id).unwrap_or_default();
        let attempt = Attempt {
            number: number(&state),
            id: state.config.id,
            image_id: record.image_id.clone(),
            user: record.user.clone(),
            started_at: state.started_at,
            ended: state.exit.map(Ended::from_exit),
        };
        slot.crash = Backoff::recovered(attempt.number, attempt.started_at);
        slot.previous = slot.current.replace(attempt);
        slot.rerun = record.rerun;
        noted.insert(slot.name.clone(), record);
    }
    noted
}

/// The pod's record is as old as its sandbox: images and limits may have changed since.
fn recognise(noted: &HashMap<String, ContainerRecord>, pod: &mut Pod, resizes: &mut Resizes) {
    for (name, record) in noted {
        resizes.set_held(name, record.held.clone());
    }
    for container in pod.spec.iter_mut().flat_map(|spec| &mut spec.containers) {
        if let Some(image) = noted.get(&container.name).and_then(|record| record.image.clone()) {
            container.image = Some(image);
        }
    }
}

/// Where a worker for a pod without a state directory starts; `granted`: what it had before, if it is not new. Blocking: looks for
/// logs of earlier attempts.
pub(crate) fn fresh(layout: &Layout, key: &PodKey, pod: Arc<Pod>, granted: Option<Granted>, now: Timestamp) -> Start {
    let status = pod.status.clone().unwrap_or_default();
    let mut world = new_world(&pod, now);
    let mut resizes = Resizes::recovered(granted.unwrap_or_else(|| Granted::of(&pod)));
    resizes.recall(&pod);
    let start_time = status.start_time.as_ref().map_or(now, |time| time.0);
    if crate::status::is_terminal(&status) {
        world.finished = true;
    } else {
        let rerun = layout.rerun_marker(&key.uid).exists();
        for status in known(&status) {
            if let Some(slot) = world.slots.iter_mut().find(|slot| slot.name == status.name) {
                remember(slot, status, world.restart_policy, rerun, now);
            }
        }
        for slot in &mut world.slots {
            slot.next_attempt = rotate::latest_attempt(layout, key, &slot.name).map_or(0, |attempt| attempt + 1);
        }
        hold_unsupported(&mut world, &pod);
        set_active_deadline(&mut world, &pod, start_time);
    }
    let last_ip = status.pod_ip.as_deref().and_then(|ip| ip.parse().ok());
    Start {
        pod,
        world,
        resizes,
        sandbox: None,
        start_time,
        last_ip,
        adopted: false,
    }
}

/// The containers that the API server knows of.
fn known(status: &PodStatus) -> impl Iterator<Item = &ContainerStatus> {
    let (main, init) = (&status.container_statuses, &status.init_container_statuses);
    main.iter()
        .chain(init)
        .chain(&status.ephemeral_container_statuses)
        .flatten()
}

/// What the API server knows of a container whose sandbox is gone.
fn remember(slot: &mut Slot, status: &ContainerStatus, policy: RestartPolicy, rerun: bool, now: Timestamp) {
    let Some(id) = status
        .container_id
        .as_deref()
        .and_then(|id| id.strip_prefix("catamaran://"))
    else {
        return;
    };
    let state = status.state.clone().unwrap_or_default();
    let last = status.last_state.as_ref().and_then(|state| state.terminated.clone());
    let ran_on = state.terminated.is_none();
    let terminated = state.terminated.or(state.waiting.and(last));
    let started_at = state
        .running
        .and_then(|running| running.started_at)
        .map_or(now, |time| time.0);
    let ended = match terminated {
        Some(end) => Ended {
            code: end.exit_code,
            signal: end.signal,
            reason: end.reason.unwrap_or_default(),
            message: end.message.unwrap_or_default(),
            started_at: end.started_at.map(|time| time.0),
            finished_at: end.finished_at.map_or(now, |time| time.0),
        },
        None => Ended::unknown(started_at, now),
    };
    slot.current = Some(Attempt {
        id: id.to_owned(),
        number: u32::try_from(status.restart_count).unwrap_or(0),
        image_id: status.image_id.clone(),
        user: status.user.as_ref().and_then(|user| known_user(user.linux.as_ref()?)),
        started_at: ended.started_at.unwrap_or(started_at),
        ended: Some(ended),
    });
    slot.stale = true;
    // Init containers run once per sandbox. Others run again if they had not come to their end.
    slot.rerun = slot.init || (!slot.ephemeral && ran_on && (rerun || policy != RestartPolicy::Never));
}

fn known_user(user: &LinuxContainerUser) -> Option<User> {
    let groups = user.supplemental_groups.iter().flatten();
    Some(User {
        uid: u32::try_from(user.uid).ok()?,
        gid: u32::try_from(user.gid).ok()?,
        groups: groups.filter_map(|gid| u32::try_from(*gid).ok()).collect(),
    })
}

/// Gives containers a place that the pod did not have before.
pub(crate) fn add_ephemeral(world: &mut World, pod: &Pod) {
    for (container, _) in crate::containers(pod).filter(|(_, role)| *role == Role::Ephemeral) {
        if !world.slots.iter().any(|slot| slot.name == container.name) {
            world.slots.push(Slot::of(&container.name, Role::Ephemeral));
        }
    }
}

/// Fills in, for an adopted pod, attempts that only the API server remembers (those that never ran have no state).
pub(crate) fn introduce(world: &mut World, pod: &Pod) {
    let status = pod.status.clone().unwrap_or_default();
    for status in known(&status) {
        let Some(slot) = world.slots.iter_mut().find(|slot| slot.name == status.name) else {
            continue;
        };
        let count = u32::try_from(status.restart_count).unwrap_or(0);
        if slot.current.is_none() && !slot.starting {
            remember(slot, status, world.restart_policy, false, world.now);
            (slot.stale, slot.rerun) = (false, false);
            if let Some(ended) = slot.ended() {
                slot.crash = Backoff::recovered(count + 1, ended.finished_at);
            }
        }
        if status.container_id.is_some() {
            slot.next_attempt = slot.next_attempt.max(count + 1);
        }
    }
}

fn new_world(pod: &Pod, now: Timestamp) -> World {
    let policy = pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref());
    World {
        now,
        restart_policy: RestartPolicy::parse(policy),
        intent: crate::world::Intent::Run,
        sandbox: Sandbox::Absent,
        sandbox_hold: None,
        slots: crate::containers(pod)
            .map(|(container, role)| Slot::of(&container.name, role))
            .collect(),
        reported: false,
        active_deadline: None,
        evicted: None,
        unintroduced: false,
        finished: false,
    }
}

fn set_active_deadline(world: &mut World, pod: &Pod, start_time: Timestamp) {
    let seconds = pod.spec.as_ref().and_then(|spec| spec.active_deadline_seconds);
    world.active_deadline = seconds.map(|seconds| start_time + SignedDuration::from_secs(seconds.clamp(0, 1 << 31)));
}

/// Containers with a field that is not honoured wait, and say which one it is. Those that wait for something, or were started in
/// this sandbox, are left alone.
pub(crate) fn hold_unsupported(world: &mut World, pod: &Pod) {
    let Some(spec) = &pod.spec else { return };
    let now = world.now;
    let of_pod = unsupported::pod(spec).into_iter().next();
    let mut counts = [0_usize; 3];
    for (container, role) in crate::containers(pod) {
        let (list, count) = match role {
            Role::Init => ("initContainers", &mut counts[0]),
            Role::Main => ("containers", &mut counts[1]),
            Role::Ephemeral => ("ephemeralContainers", &mut counts[2]),
        };
        let index = std::mem::replace(count, *count + 1);
        let mut slots = world.slots.iter_mut();
        let waiting = |slot: &&mut Slot| {
            let unstarted = slot.current.is_none() || slot.stale;
            slot.name == container.name && unstarted && !slot.starting && slot.hold.is_none()
        };
        if let Some(slot) = slots.find(waiting) {
            let own = || unsupported::container(&container).into_iter().next();
            let field = of_pod
                .clone()
                .or_else(|| Some(format!("spec.{list}[{index}].{}", own()?)));
            slot.hold = field.map(|field| unsupported_hold(&field, now));
        }
    }
}

fn unsupported_hold(field: &str, now: Timestamp) -> Hold {
    Hold {
        reason: "CreateContainerConfigError".to_owned(),
        message: format!("{field} is not supported by this node agent yet; remove it to run the pod"),
        since: now,
        until: None,
        settled: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_not_honoured_is_named_and_holds_only_whom_it_concerns() {
        let held = |spec: serde_json::Value| -> Vec<String> {
            let pod: Pod = serde_json::from_value(json!({"spec": spec})).expect("a pod");
            let mut world = new_world(&pod, Timestamp::UNIX_EPOCH);
            hold_unsupported(&mut world, &pod);
            let fields = world
                .slots
                .into_iter()
                .map(|slot| slot.hold.map_or_else(String::new, |hold| hold.message));
            fields
                .map(|message| message.split(' ').next().unwrap_or_default().to_owned())
                .collect()
        };
        let containers = json!([{"name": "a"}, {"name": "b", "readinessProbe": {}}]);
        assert_eq!(
            held(json!({"containers": containers})),
            ["", "spec.containers[1].readinessProbe"]
        );
        let init = json!([{"name": "i", "restartPolicy": "Always"}]);
        assert_eq!(
            held(json!({"initContainers": init, "containers": containers})),
            [
                "spec.initContainers[0].restartPolicy",
                "",
                "spec.containers[1].readinessProbe"
            ]
        );
        assert_eq!(
            held(json!({"hostNetwork": true, "containers": containers})),
            ["spec.hostNetwork"; 2]
        );
        let devices = json!([{"name": "v", "devicePath": "/dev/v"}]);
        let debuggers = json!([{"name": "d"}, {"name": "e", "volumeDevices": devices}]);
        assert_eq!(
            held(json!({"containers": [{"name": "a"}], "ephemeralContainers": debuggers})),
            ["", "", "spec.ephemeralContainers[1].volumeDevices"]
        );
        assert_eq!(
            held(json!({"containers": [{"name": "a", "lifecycle": {"stopSignal": "SIGUSR1"}}]})),
            [""]
        );
    }

    fn running(name: &str, id: &str) -> ContainerState {
        let state = json!({"config": {"id": id, "name": name, "runtime": "linux", "log_path": "/logs/1.log", "terminal": false,
            "stdin": false, "stdin_once": false}, "pid": 1, "started_at": "2026-01-01T00:00:00Z", "exit": null});
        serde_json::from_value(state).expect("a state")
    }

    #[test]
    fn what_was_noted_of_containers_goes_on() {
        let directory = tempfile::tempdir().expect("a directory");
        let layout = Layout {
            data_dir: directory.path().to_owned(),
            run_dir: directory.path().to_owned(),
            instance: String::new(),
        };
        let pod = |image: &str, cpu: &str| -> Pod {
            let resources = json!({"requests": {"cpu": cpu}});
            let policy = json!([{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]);
            let main = json!({"name": "a", "image": image, "resources": resources, "resizePolicy": policy});
            let strange = json!({"name": "b", "livenessProbe": {}});
            let meta = json!({"name": "p", "namespace": "ns", "uid": "u", "generation": 2});
            serde_json::from_value(json!({"metadata": meta, "spec": {"containers": [main, strange]}})).expect("a pod")
        };
        let (mut recorded, asked) = (pod("old", "1"), pod("new", "2"));
        let key = PodKey::of(&recorded).expect("a key");
        let bundle = layout.bundle(&key.uid, "x");
        std::fs::create_dir_all(&bundle).expect("made");
        let noted = ContainerRecord {
            image: Some("new".to_owned()),
            held: vec![Granted::of(&recorded).containers["a"].clone()],
            ..ContainerRecord::default()
        };
        record::write(&bundle.join(crate::layout::RECORD), &noted).expect("written");
        layout
            .amend_container(&key.uid, "x", |record| record.rerun = true)
            .expect("written");

        let (granted, containers) = (Granted::resized(&asked), vec![running("a", "x")]);
        let (world, resizes) = taken_over(&layout, &key, &mut recorded, granted, containers, Timestamp::UNIX_EPOCH);
        assert!(world.unintroduced);
        // Told to end for the sake of a resize: it is started again, whatever its restart policy, and the resize goes on.
        assert!(world.slots[0].rerun && world.slots[0].hold.is_none());
        let spec = recorded.spec.as_ref().expect("a spec");
        assert_eq!(spec.containers[0].image.as_deref(), Some("new"), "which it runs");
        assert!(!resizes.is_in_force("a") && resizes.wants_restart(&spec.containers[0]));
        assert_eq!(resizes.in_progress.expect("in progress").generation, Some(2));
        // Who was held is held.
        let hold = world.slots[1].hold.as_ref().expect("held");
        assert!(hold.message.starts_with("spec.containers[1].livenessProbe"), "{hold:?}");
    }
}
