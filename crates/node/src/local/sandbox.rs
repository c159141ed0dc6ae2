//! Making and removing a pod's sandbox: address, files, cgroup, pod shim, volumes.
//!
//! ```text
//!   acquire address ──▶ record it ──▶ cgroup ──▶ pod shim
//!                  └──▶ objects ──▶ volumes            (beside it)
//! ```
//!
//! The record comes before the shim: an agent that dies in between leaves a state directory without a living shim, which
//! the next one removes, and the address with it.

use super::{LocalMachine, Sandboxed};
use crate::layout::PodKey;
use crate::machine::{Failure, Retry, SandboxUp};
use crate::record::{self, PodRecord};
use crate::resize::Granted;
use crate::{env, netfiles, resources, volume};
use catamaran_shim::cgroup::Cgroup;
use catamaran_shim::client::PodShim;
use catamaran_shim::spec::PodConfig;
use catamaran_shim::{StateDir, leftovers};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;

const HOST_RESOLV_CONF: &str = "/etc/resolv.conf";

pub(super) async fn create(machine: &LocalMachine, pod: &Arc<Pod>) -> Result<SandboxUp, Failure> {
    let key = PodKey::of(pod).ok_or_else(|| failed("the pod has no usable name, namespace or uid"))?;
    let _turn = machine.starts.acquire().await.ok();
    let network = &machine.parts.network;
    let net = network.acquire().await.map_err(|error| failed(&crate::chain(&error)))?;
    let ip = net.ip;
    let shim = async {
        prepare(machine, pod, &key, ip).await?;
        let config = pod_config(machine, pod, &key);
        machine
            .parts
            .launcher
            .create_pod(&config, net.netns)
            .await
            .map_err(|error| failed(&crate::chain(&error)))
    };
    let made = match futures::join!(shim, volumes(machine, pod, Some(ip.into()))) {
        (Ok(made), Ok(())) => Ok(made),
        (Ok((shim, _)), Err(failure)) => {
            if let Err(error) = shim.shutdown().await {
                tracing::warn!(pod = key.uid, error = crate::chain(&error), "cannot end a pod shim");
            }
            Err(failure)
        }
        (Err(failure), _) => Err(failure),
    };
    match made {
        Ok((shim, events)) => {
            machine.adopt(&key.uid, Sandboxed { shim, ip });
            Ok(SandboxUp { ip: ip.into(), events })
        }
        Err(failure) => {
            if let Err(message) = sweep(machine, &key).await {
                tracing::warn!(pod = key.uid, message, "cannot remove what a failed sandbox left");
            }
            network.release(ip);
            Err(failure)
        }
    }
}

/// Sets up the pod's volumes, or brings them up to date.
pub(super) async fn volumes(machine: &LocalMachine, pod: &Arc<Pod>, ip: Option<IpAddr>) -> Result<(), Failure> {
    let has_volumes = pod
        .spec
        .as_ref()
        .is_some_and(|spec| spec.volumes.as_ref().is_some_and(|all| !all.is_empty()));
    if !has_volumes {
        return Ok(());
    }
    let mount_failure = |message: String| Failure {
        reason: "FailedMount".to_owned(),
        message,
        retry: Retry::Soon,
    };
    let references = volume::references(pod);
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let objects = async {
        match references.is_empty() {
            true => Ok(env::Objects::default()),
            false => {
                let fetched = machine.parts.objects.fetch(namespace, &references).await;
                fetched.map_err(|error| crate::chain(&error))
            }
        }
    };
    let (mut objects, tokens) = futures::try_join!(objects, machine.parts.tokens.fetch(pod)).map_err(mount_failure)?;
    objects.tokens = tokens;
    let (layout, pod) = (machine.layout().clone(), pod.clone());
    let (node_name, host_ip) = (machine.parts.node_name.clone(), machine.parts.node_ip);
    let allocatable = machine.parts.allocatable.clone();
    let work = move || {
        let downward = env::Downward {
            pod: &pod,
            node_name: &node_name,
            host_ip,
            pod_ip: ip,
            allocatable: &allocatable,
        };
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        volume::set_up(&layout, uid, &downward, &objects)
    };
    let done = tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| mount_failure(error.to_string()))?;
    done.map_err(|error| mount_failure(error.to_string()))
}

/// State directory with the record, the pod's files, its cgroup.
async fn prepare(machine: &LocalMachine, pod: &Arc<Pod>, key: &PodKey, ip: Ipv4Addr) -> Result<(), Failure> {
    let grants = machine.grants.clone();
    let (layout, pod, key) = (machine.layout().clone(), pod.clone(), key.clone());
    let shared_memory = shares_memory(&pod);
    let work = move || -> io::Result<()> {
        let state = layout.state_dir(&key.uid);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(state.join("containers"))?;
        let record = PodRecord {
            pod: Pod::clone(&pod),
            ip,
            start_time: Timestamp::now(),
        };
        record::write(&layout.record(&key.uid), &record)?;
        let directory = layout.pod_dir(&key.uid);
        fs::create_dir_all(&directory)?;
        let _ = fs::remove_file(layout.rerun_marker(&key.uid));
        grants.note_accepted(&key.uid, &Granted::of(&pod))?;
        fs::write(directory.join("hosts"), netfiles::hosts(&pod, ip.into()))?;
        fs::write(directory.join("hostname"), format!("{}\n", netfiles::hostname(&pod)))?;
        let host = fs::read_to_string(HOST_RESOLV_CONF).unwrap_or_default();
        fs::write(directory.join("resolv.conf"), netfiles::resolv_conf(&pod, &host))?;
        if shared_memory {
            mount_shared_memory(&directory.join("shm"))?;
        }
        let limits = pod.spec.as_ref().map(resources::pod_resources).unwrap_or_default();
        Cgroup::create(&layout.pod_cgroup(&key.uid), &limits)
            .map_err(|error| io::Error::other(crate::chain(&error)))?;
        Ok(())
    };
    let done = tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| failed(&error.to_string()))?;
    done.map_err(|error| failed(&error.to_string()))
}

/// Containers of one pod share `/dev/shm`; a single one gets its own without a mount on the host, and who is added later has that.
pub(super) fn shares_memory(pod: &Pod) -> bool {
    pod.spec.as_ref().is_some_and(|spec| spec.containers.len() > 1)
}

fn mount_shared_memory(directory: &std::path::Path) -> io::Result<()> {
    use rustix::mount::{MountFlags, mount};
    fs::create_dir_all(directory)?;
    let mounted = rustix::fs::statfs(directory)?.f_type == 0x0102_1994;
    if !mounted {
        let flags = MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV;
        mount("shm", directory, "tmpfs", flags, c"mode=1777,size=65536k")?;
    }
    Ok(())
}

fn pod_config(machine: &LocalMachine, pod: &Pod, key: &PodKey) -> PodConfig {
    let spec = pod.spec.as_ref();
    let security = spec.and_then(|spec| spec.security_context.as_ref());
    let sysctls = security
        .and_then(|security| security.sysctls.as_ref())
        .into_iter()
        .flatten();
    PodConfig {
        uid: key.uid.clone(),
        namespace: key.namespace.clone(),
        name: key.name.clone(),
        state_dir: machine.layout().state_dir(&key.uid),
        hostname: netfiles::hostname(pod),
        cgroup: machine.layout().pod_cgroup(&key.uid),
        share_process_namespace: spec.and_then(|spec| spec.share_process_namespace) == Some(true),
        sysctls: sysctls
            .map(|sysctl| (sysctl.name.clone(), sysctl.value.clone()))
            .collect(),
    }
}

pub(super) async fn remove(machine: &LocalMachine, key: &PodKey) -> Result<(), String> {
    let known = machine.sandbox(&key.uid);
    let recorded = record::read::<PodRecord>(&machine.layout().record(&key.uid)).map(|record| record.ip);
    if let Some(sandboxed) = &known {
        end(&sandboxed.shim).await?;
    }
    sweep(machine, key).await?;
    machine.sandboxes.remove(&key.uid);
    if let Some(ip) = known.map(|sandboxed| sandboxed.ip).or(recorded) {
        machine.parts.network.release(ip);
    }
    Ok(())
}

async fn end(shim: &PodShim) -> Result<(), String> {
    shim.shutdown().await.map_err(|error| crate::chain(&error))
}

/// Kills what is left of a pod without a (living) shim, removes its cgroup and state directory.
async fn sweep(machine: &LocalMachine, key: &PodKey) -> Result<(), String> {
    let (path, cgroup) = (
        machine.layout().state_dir(&key.uid),
        machine.layout().pod_cgroup(&key.uid),
    );
    let work = move || -> Result<(), String> {
        let dir = StateDir::new(path);
        let sandbox = dir.sandbox().ok().flatten();
        if dir.path().exists() {
            leftovers::remove_pod(&dir, sandbox.as_ref())?;
        }
        let group = Cgroup::open(&cgroup).map_err(|error| crate::chain(&error))?;
        if group.exists() {
            group
                .kill_all()
                .and_then(|()| group.remove())
                .map_err(|error| crate::chain(&error))?;
        }
        dir.remove().map_err(|error| crate::chain(&error))
    };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| error.to_string())?
}

fn failed(message: &str) -> Failure {
    Failure {
        reason: "FailedCreatePodSandBox".to_owned(),
        message: format!("Failed to create pod sandbox: {message}"),
        retry: Retry::Soon,
    }
}
