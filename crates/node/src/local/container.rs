//! Starting one container: image, environment, identity, mounts, bundle, shim.

use super::{LocalMachine, PreparedImage, Sandboxed, failed_start, sandbox};
use crate::images::{Progress, Ready, Wanted};
use crate::layout::{Layout, PodKey, RECORD};
use crate::machine::{Failure, Prepared, Reports, Retry, Severity, StartFailure, StartRequest, StartedAttempt};
use crate::record::{self, ContainerRecord};
use crate::runtime::{self, BindMount, DEFAULT_TERMINATION_LOG, Input, oci, wasm};
use crate::users::{self, Accounts};
use crate::world::{Ended, User};
use crate::{env, ephemeral, netfiles, resources, volume};
use catamaran_image::Form;
use catamaran_shim::client::Error as ShimError;
use catamaran_shim::spec::{ContainerConfig, ContainerState, RuntimeKind, Shared};
use k8s_openapi::api::core::v1::{Container, Pod};
use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(super) async fn image(machine: &LocalMachine, pod: &Arc<Pod>, name: &str) -> Result<Prepared, Failure> {
    let container = find(pod, name)?;
    let reference = container.image.as_deref().unwrap_or_default();
    let policy = container.image_pull_policy.as_deref().unwrap_or("IfNotPresent");
    let reports = &machine.parts.reports;
    let progress = |progress: Progress, image: Option<&catamaran_image::Image>| {
        let (reason, message) = match progress {
            Progress::Present => (
                "Pulled",
                format!("Container image \"{reference}\" already present on machine"),
            ),
            Progress::Pulling => ("Pulling", format!("Pulling image \"{reference}\"")),
            Progress::Pulled { took, waited } => {
                let millis =
                    |duration: std::time::Duration| std::time::Duration::from_millis(duration.as_millis() as u64);
                let size = image.map_or(0, |image| image.size);
                let (took, waited) = (millis(took), millis(waited));
                let message = format!(
                    "Successfully pulled image \"{reference}\" in {took:?} ({waited:?} including waiting). Image size: {size} bytes."
                );
                ("Pulled", message)
            }
        };
        reports.event(pod, Some(name), Severity::Normal, reason, &message);
    };
    let wanted = Wanted {
        uid: pod.metadata.uid.as_deref().unwrap_or_default(),
        container: name,
        reference,
        policy,
    };
    let ready = machine
        .images
        .ensure(&wanted, machine.credentials(pod), progress)
        .await?;
    let handler = match pod.spec.as_ref().and_then(|spec| spec.runtime_class_name.as_deref()) {
        Some(class) => Some(machine.parts.objects.runtime_handler(class).await),
        None => None,
    };
    runtime::allowed(handler.as_deref(), &ready.image.form, reference)
        .map_err(|message| create_error(message, Retry::Never))?;
    let wasm = native_code(machine, &ready).await?;
    Ok(Arc::new(PreparedImage { ready, wasm }))
}

/// Module and native code, when the image is wasm.
async fn native_code(machine: &LocalMachine, ready: &Ready) -> Result<Option<(PathBuf, PathBuf)>, Failure> {
    let (module, digest) = match &ready.image.form {
        Form::Linux => return Ok(None),
        Form::WasmArtifact { module, digest } => (module.clone(), digest.clone()),
        Form::WasmRootfs { entrypoint } => {
            let (lower_dirs, entrypoint) = (ready.root.lower_dirs.clone(), entrypoint.clone());
            let working_dir = ready.image.config.working_dir.clone();
            let find = move || {
                let module = wasm::module_in_root(&lower_dirs, &entrypoint, &working_dir)?;
                let digest =
                    file_digest(&module).map_err(|error| format!("cannot read {}: {error}", module.display()))?;
                Ok::<_, String>((module, digest))
            };
            let found = tokio::task::spawn_blocking(find).await;
            found
                .map_err(|error| error.to_string())
                .flatten()
                .map_err(|message| create_error(message, Retry::Soon))?
        }
    };
    let native = machine.parts.compiler.native(&digest, &module).await.map_err(|error| {
        let reason = if error.reason.is_empty() {
            "CreateContainerError".to_owned()
        } else {
            error.reason
        };
        Failure {
            reason,
            message: error.message,
            retry: Retry::Soon,
        }
    })?;
    Ok(Some((module, native)))
}

fn file_digest(path: &Path) -> std::io::Result<String> {
    use sha2::Digest;
    let bytes = fs::read(path)?;
    let hash = sha2::Sha256::digest(&bytes);
    Ok(hash
        .iter()
        .fold(String::from("sha256:"), |text, byte| format!("{text}{byte:02x}")))
}

pub(super) async fn start(
    machine: &LocalMachine,
    pod: &Arc<Pod>,
    request: &StartRequest,
    prepared: &Prepared,
) -> Result<StartedAttempt, StartFailure> {
    let prepared = Arc::clone(prepared).downcast::<PreparedImage>().map_err(|_| {
        waiting(create_error(
            "the image was prepared by another machine".to_owned(),
            Retry::Soon,
        ))
    })?;
    let key = PodKey::of(pod).ok_or_else(|| waiting(config_error("the pod has no name".to_owned())))?;
    let container = find(pod, &request.container).map_err(waiting)?;
    let sandboxed = machine.sandbox(&key.uid);
    let sandboxed =
        sandboxed.ok_or_else(|| waiting(create_error("the pod's sandbox is gone".to_owned(), Retry::Soon)))?;
    let references = env::references(&container);
    let objects = match references.is_empty() {
        true => env::Objects::default(),
        false => {
            let fetched = machine.parts.objects.fetch(&key.namespace, &references).await;
            fetched.map_err(|error| waiting(config_error(crate::chain(&error))))?
        }
    };
    let mut own = env::environment(&container, &machine.downward(pod, Some(request.ip)), &objects)
        .map_err(|message| waiting(config_error(message)))?;
    if let Some(api) = machine.parts.api {
        own.set_api_server(api);
    }
    let shared = shared(pod, &request.container, &sandboxed).await.map_err(waiting)?;
    let _turn = machine.starts.acquire().await.ok();
    let bundle = {
        let (layout, pod, request, prepared) =
            (machine.layout().clone(), pod.clone(), request.clone(), prepared.clone());
        let memory = machine.parts.memory_bytes;
        let key = key.clone();
        move || {
            Bundle {
                layout: &layout,
                key: &key,
                pod: &pod,
                request: &request,
                prepared: &prepared,
                memory,
                shared,
            }
            .write(&own)
        }
    };
    let written = tokio::task::spawn_blocking(bundle).await;
    let (config, user) = written
        .map_err(|error| waiting(create_error(error.to_string(), Retry::Soon)))?
        .map_err(waiting)?;
    let image_id = image_id(&prepared.ready.image);
    match sandboxed.shim.start(&config).await {
        Ok(state) => Ok(StartedAttempt {
            started_at: state.started_at,
            image_id,
            user: Some(user),
            ended: state.exit.map(Ended::from_exit),
        }),
        Err(error) => {
            let layout = machine.layout();
            let (bundle, files) = (
                layout.bundle(&key.uid, &request.id),
                layout.container_dir(&key.uid, &request.id),
            );
            machine.cleaning.spawn_blocking(move || {
                super::remove_tree(&bundle);
                super::remove_tree(&files);
            });
            Err(start_failure(&error, image_id))
        }
    }
}

/// What an ephemeral container has of the others. A wasm container has neither processes nor memory to share: what is started for
/// it sees itself.
async fn shared(pod: &Pod, name: &str, sandboxed: &Sandboxed) -> Result<Shared, Failure> {
    let mut shared = Shared::default();
    let Some(spec) = pod.spec.as_ref().filter(|_| ephemeral::is_one(pod, name)) else {
        return Ok(shared);
    };
    let linux = |state: ContainerState| (state.config.runtime == RuntimeKind::Linux).then_some(state.config.id);
    if let Some(target) = ephemeral::target(pod, name) {
        let missing = || config_error(format!("unable to find target container \"{target}\""));
        let state = sandboxed.running(target).await.ok_or_else(missing)?;
        let all_share = spec.share_process_namespace == Some(true);
        shared.processes = linux(state).filter(|_| !all_share);
    }
    if let ([alone], false) = (&*spec.containers, sandbox::shares_memory(pod)) {
        shared.memory = sandboxed.running(&alone.name).await.and_then(linux);
    }
    Ok(shared)
}

fn start_failure(error: &ShimError, image_id: String) -> StartFailure {
    match error {
        ShimError::Start(error) => match error.reason.as_str() {
            "CreateContainerError" | "CreateContainerConfigError" => StartFailure::Waiting(Failure {
                reason: error.reason.clone(),
                message: error.message.clone(),
                retry: Retry::Soon,
            }),
            _ => {
                let code = if error.exit_code == 0 { 128 } else { error.exit_code };
                StartFailure::Ended {
                    ended: failed_start(error.message.clone(), code, "StartError"),
                    image_id,
                }
            }
        },
        other => waiting(create_error(crate::chain(other), Retry::Soon)),
    }
}

/// `repository@sha256:…` where the image came from a registry, else its id.
fn image_id(image: &catamaran_image::Image) -> String {
    image.digests.first().unwrap_or(&image.id).clone()
}

/// As `status.containerStatuses[].user` has it: the primary group is one of the groups.
fn shown(identity: &users::Identity) -> User {
    let mut groups = vec![identity.gid];
    groups.extend(identity.groups.iter().filter(|gid| **gid != identity.gid));
    User {
        uid: identity.uid,
        gid: identity.gid,
        groups,
    }
}

/// The blocking part of a start: everything that is written before the shim is asked.
struct Bundle<'a> {
    layout: &'a Layout,
    key: &'a PodKey,
    pod: &'a Pod,
    request: &'a StartRequest,
    prepared: &'a PreparedImage,
    memory: u64,
    shared: Shared,
}

impl Bundle<'_> {
    fn write(&self, own: &env::Environment) -> Result<(ContainerConfig, User), Failure> {
        let container = find(self.pod, &self.request.container)?;
        let Ready { image, root } = &self.prepared.ready;
        let accounts = Accounts::read(&root.lower_dirs);
        let identity = users::resolve(self.pod, &container, &image.config.user, &accounts).map_err(config_error)?;
        let user = shown(&identity);
        let terminal = container.tty.unwrap_or(false);
        let hostname = netfiles::hostname(self.pod);
        let environment = runtime::complete_environment(&image.config, own, &hostname, &identity, terminal);
        let bundle = self.layout.bundle(&self.key.uid, &self.request.id);
        let container_dir = self.layout.container_dir(&self.key.uid, &self.request.id);
        let log_path = self.layout.log_file(self.key, &container.name, self.request.attempt);
        self.make_directories(&bundle, &container_dir, &log_path)
            .map_err(|error| create_error(format!("cannot write the container's files: {error}"), Retry::Soon))?;
        let spec = self.pod.spec.as_ref();
        let input = Input {
            pod: self.pod,
            container: &container,
            image,
            root,
            mounts: self.mounts(&container, &environment, &container_dir)?,
            environment,
            identity,
            bundle: &bundle,
            container_dir: &container_dir,
            cgroup: self.layout.container_cgroup(&self.key.uid, &self.request.id),
            oom_score_adj: spec.map_or(0, |spec| resources::oom_score_adj(spec, &container, self.memory)),
            unified_cgroups: Path::new("/sys/fs/cgroup/cgroup.controllers").exists(),
            shared_memory: sandbox::shares_memory(self.pod).then(|| self.layout.pod_dir(&self.key.uid).join("shm")),
        };
        self.write_spec(&input)?;
        let record = ContainerRecord {
            image_id: image_id(image),
            attempt: self.request.attempt,
            stop_signal: runtime::stop_signal(&image.config, &container),
            user: Some(user.clone()),
            image: container.image.clone(),
            held: vec![container.resources.clone().unwrap_or_default()],
            rerun: false,
        };
        record::write(&bundle.join(RECORD), &record).map_err(|error| write_error(&bundle, &error))?;
        let config = ContainerConfig {
            id: self.request.id.clone(),
            name: container.name.clone(),
            runtime: if self.prepared.wasm.is_some() {
                RuntimeKind::Wasm
            } else {
                RuntimeKind::Linux
            },
            log_path: Some(log_path),
            terminal,
            stdin: container.stdin.unwrap_or(false),
            stdin_once: container.stdin_once.unwrap_or(false),
            shared: self.shared.clone(),
        };
        Ok((config, user))
    }

    fn make_directories(&self, bundle: &Path, container_dir: &Path, log_path: &Path) -> std::io::Result<()> {
        fs::create_dir_all(bundle.join("rootfs"))?;
        fs::create_dir_all(container_dir)?;
        if !self.prepared.ready.root.lower_dirs.is_empty() {
            fs::create_dir_all(container_dir.join("upper"))?;
            fs::create_dir_all(container_dir.join("work"))?;
        }
        match log_path.parent() {
            Some(parent) => fs::create_dir_all(parent),
            None => Ok(()),
        }
    }

    fn write_spec(&self, input: &Input<'_>) -> Result<(), Failure> {
        let limits = resources::container_resources(input.container);
        let (name, bytes) = match &self.prepared.wasm {
            Some((module, native)) => (
                "wasm.json",
                serde_json::to_vec(&wasm::spec(input, &limits, module, native)),
            ),
            None => {
                let spec = oci::spec(input, &limits).map_err(|message| create_error(message, Retry::Soon))?;
                ("config.json", serde_json::to_vec(&spec))
            }
        };
        let path = input.bundle.join(name);
        bytes
            .map_err(std::io::Error::from)
            .and_then(|bytes| fs::write(&path, bytes))
            .map_err(|e| write_error(&path, &e))
    }

    /// Volume mounts in the spec's order, then the pod's own files where no volume took their place.
    fn mounts(
        &self,
        container: &Container,
        environment: &env::Environment,
        container_dir: &Path,
    ) -> Result<Vec<BindMount>, Failure> {
        let mut mounts = Vec::new();
        for (index, wanted) in container.volume_mounts.iter().flatten().enumerate() {
            mounts.push(self.volume_mount(container, index, wanted, environment)?);
        }
        let read_only = container
            .security_context
            .as_ref()
            .and_then(|s| s.read_only_root_filesystem)
            == Some(true);
        let pod_dir = self.layout.pod_dir(&self.key.uid);
        for (file, target) in [
            ("hosts", "/etc/hosts"),
            ("hostname", "/etc/hostname"),
            ("resolv.conf", "/etc/resolv.conf"),
        ] {
            if !mounts.iter().any(|mount| mount.target == target) {
                mounts.push(BindMount {
                    source: pod_dir.join(file),
                    target: target.to_owned(),
                    read_only,
                });
            }
        }
        let target = container
            .termination_message_path
            .as_deref()
            .filter(|path| !path.is_empty());
        let target = target.unwrap_or(DEFAULT_TERMINATION_LOG);
        let source = container_dir.join("termination-log");
        let made = fs::write(&source, b"").and_then(|()| {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(&source, fs::Permissions::from_mode(0o666))
        });
        made.map_err(|error| write_error(&source, &error))?;
        mounts.push(BindMount {
            source,
            target: target.to_owned(),
            read_only: false,
        });
        Ok(mounts)
    }

    fn volume_mount(
        &self,
        container: &Container,
        index: usize,
        wanted: &k8s_openapi::api::core::v1::VolumeMount,
        environment: &env::Environment,
    ) -> Result<BindMount, Failure> {
        let volumes = self.pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        let volume = volumes.into_iter().find(|volume| volume.name == wanted.name);
        let volume = volume.ok_or_else(|| config_error(format!("volume \"{}\" not found", wanted.name)))?;
        let mut source = volume::source(self.layout, &self.key.uid, volume);
        if let Some(relative) = sub_path(wanted, environment).map_err(config_error)? {
            let directory = self
                .layout
                .pod_dir(&self.key.uid)
                .join("subpaths")
                .join(&container.name);
            // A name of its own for every attempt: an older pin may still be in use.
            let pinned = directory.join(format!("{}-{index}", self.request.attempt));
            volume::pin(&source, &relative, &pinned).map_err(|error| {
                let message = format!(
                    "failed to prepare subPath for volumeMount \"{}\" of container \"{}\": {error}",
                    wanted.name, container.name
                );
                config_error(message)
            })?;
            source = pinned;
        }
        let read_only = wanted.read_only.unwrap_or(false) || volume::is_read_only(volume);
        let target = if wanted.mount_path.starts_with('/') {
            wanted.mount_path.clone()
        } else {
            format!("/{}", wanted.mount_path)
        };
        Ok(BindMount {
            source,
            target,
            read_only,
        })
    }
}

/// `subPath`, or `subPathExpr` with every reference resolved.
fn sub_path(
    mount: &k8s_openapi::api::core::v1::VolumeMount,
    environment: &env::Environment,
) -> Result<Option<String>, String> {
    if let Some(expression) = mount
        .sub_path_expr
        .as_deref()
        .filter(|expression| !expression.is_empty())
    {
        if crate::expand::unresolved(expression, |name| environment.get(name).is_some()).is_some() {
            return Err(format!("missing value for subPathExpr \"{expression}\""));
        }
        return Ok(Some(environment.expand(expression)));
    }
    Ok(mount.sub_path.clone().filter(|path| !path.is_empty()))
}

fn find<'a>(pod: &'a Pod, name: &str) -> Result<Cow<'a, Container>, Failure> {
    crate::find_container(pod, name).ok_or_else(|| config_error(format!("container {name} is not in the pod")))
}

fn config_error(message: String) -> Failure {
    Failure {
        reason: "CreateContainerConfigError".to_owned(),
        message,
        retry: Retry::Soon,
    }
}

fn create_error(message: String, retry: Retry) -> Failure {
    Failure {
        reason: "CreateContainerError".to_owned(),
        message,
        retry,
    }
}

fn write_error(path: &Path, error: &std::io::Error) -> Failure {
    create_error(format!("cannot write {}: {error}", path.display()), Retry::Soon)
}

fn waiting(failure: Failure) -> StartFailure {
    StartFailure::Waiting(failure)
}
