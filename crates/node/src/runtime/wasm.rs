//! `wasm.json`: what a wasm container is told. Pure.

use super::{Input, own_words};
use crate::resources;
use catamaran_image::Form;
use catamaran_shim::spec::{Preopen, WasmSpec};
use k8s_openapi::api::core::v1::Container;
use oci_spec::runtime::LinuxResources;
use std::path::{Path, PathBuf};

const DEFAULT_HTTP_PORT: u16 = 8080;
/// What of a container's memory is left to the process around the guest, at most and at least as a part of the limit. The
/// guest meets its own limit first, which refuses and says so; the cgroup's kills.
const HEADROOM_BYTES: u64 = 4 << 20;
const HEADROOM_PART: u64 = 4;

/// Builds the spec for a wasm module at `module`, compiled to `native`.
pub(crate) fn spec(input: &Input<'_>, resources: &LinuxResources, module: &Path, native: &Path) -> WasmSpec {
    let with_root = !input.root.lower_dirs.is_empty();
    let preopens = input.mounts.iter().map(|mount| Preopen {
        host_path: mount.source.clone(),
        guest_path: mount.target.clone(),
        // Without a root file system there is nothing of the container's own to write to.
        read_only: mount.read_only || (!with_root && is_pod_file(&mount.target)),
    });
    WasmSpec {
        module: module.to_owned(),
        native: native.to_owned(),
        args: args(input),
        env: input.environment.lines(),
        lower_dirs: input.root.lower_dirs.clone(),
        writable_layer: (with_root && !input.read_only_root()).then(|| input.container_dir.to_owned()),
        preopens: preopens.collect(),
        cgroup: input.cgroup.clone(),
        resources: resources.clone(),
        memory_limit: memory_limit(input.container),
        uid: input.identity.uid,
        gid: input.identity.gid,
        supplemental_gids: input.identity.groups.clone(),
        http_port: http_port(input),
        seccomp: input.seccomp(),
        container_name: input.container.name.clone(),
    }
}

/// Bytes the guest may have.
pub(crate) fn memory_limit(container: &Container) -> Option<u64> {
    let bytes = u64::try_from(resources::memory_limit(container)?).ok()?;
    Some(guest_memory(bytes))
}

/// `argv`: a wasm program needs no command, its image names it; `argv[0]` is then the entrypoint or the image's name.
fn args(input: &Input<'_>) -> Vec<String> {
    let config = &input.image.config;
    let (command, args) = own_words(input.container, &input.environment);
    let mut program = match (command, &input.image.form) {
        (Some(command), _) => command,
        (None, Form::WasmRootfs { entrypoint }) if config.entrypoint.is_empty() && config.cmd.is_empty() => {
            vec![entrypoint.clone()]
        }
        (None, _) if config.entrypoint.is_empty() && config.cmd.is_empty() => vec![program_name(input)],
        (None, _) => config.entrypoint.clone(),
    };
    let own_command = input
        .container
        .command
        .as_ref()
        .is_some_and(|command| !command.is_empty());
    match args {
        Some(args) => {
            if program.is_empty() {
                program.push(program_name(input));
            }
            program.extend(args);
        }
        None if !own_command => program.extend(config.cmd.clone()),
        None => {}
    }
    program
}

/// `registry/shop/hello:1.0` runs as `hello`.
fn program_name(input: &Input<'_>) -> String {
    let image = input.container.image.as_deref().unwrap_or("wasm");
    let name = image.rsplit('/').next().unwrap_or(image);
    name.split(['@', ':']).next().unwrap_or(name).to_owned()
}

/// Bytes for the guest of a container that may use `limit`.
fn guest_memory(limit: u64) -> u64 {
    limit - HEADROOM_BYTES.min(limit / HEADROOM_PART)
}

/// The files every container of a pod gets from the agent.
fn is_pod_file(target: &str) -> bool {
    ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"].contains(&target)
}

fn http_port(input: &Input<'_>) -> u16 {
    let first = input.container.ports.iter().flatten().next();
    first
        .and_then(|port| u16::try_from(port.container_port).ok())
        .filter(|port| *port != 0)
        .unwrap_or(DEFAULT_HTTP_PORT)
}

/// The path of the wasm file inside a root file system image, and of the file on the host.
///
/// # Errors
/// It is not there or no regular file.
pub(crate) fn module_in_root(lower_dirs: &[PathBuf], entrypoint: &str, working_dir: &str) -> Result<PathBuf, String> {
    let path = match entrypoint.starts_with('/') {
        true => entrypoint.to_owned(),
        false => format!("{}/{entrypoint}", working_dir.trim_end_matches('/')),
    };
    match crate::layers::open(lower_dirs, &path) {
        Ok(Some((_, real))) => Ok(real),
        Ok(None) => Err(format!("the image's entrypoint {path} is not in the image")),
        Err(error) => Err(format!("cannot read the image's entrypoint {path}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::BindMount;
    use catamaran_image::{Image, Root};

    fn mounts() -> Vec<BindMount> {
        ["/data", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"]
            .map(|target| BindMount {
                source: "/host".into(),
                target: target.to_owned(),
                read_only: false,
            })
            .into()
    }

    fn build(form: Form, lower_dirs: Vec<PathBuf>) -> WasmSpec {
        let container: Container = serde_json::from_value(serde_json::json!({
            "name": "c", "image": "registry/shop/hello:1.0", "resources": {"limits": {"memory": "64Mi"}}}))
        .expect("a container");
        let image = Image {
            id: String::new(),
            manifest: String::new(),
            names: Vec::new(),
            digests: Vec::new(),
            size: 0,
            os: "wasip1".to_owned(),
            architecture: "wasm".to_owned(),
            created: None,
            config: catamaran_image::Config::default(),
            form,
        };
        let input = Input {
            pod: &k8s_openapi::api::core::v1::Pod::default(),
            container: &container,
            image: &image,
            root: &Root { lower_dirs },
            environment: crate::env::Environment::default(),
            identity: crate::users::Identity::default(),
            mounts: mounts(),
            bundle: Path::new("/bundle"),
            container_dir: Path::new("/container"),
            cgroup: String::new(),
            unified_cgroups: true,
            oom_score_adj: 0,
            shared_memory: None,
        };
        spec(&input, &LinuxResources::default(), Path::new("/m"), Path::new("/n"))
    }

    fn read_only(spec: &WasmSpec) -> Vec<(&str, bool)> {
        spec.preopens
            .iter()
            .map(|preopen| (preopen.guest_path.as_str(), preopen.read_only))
            .collect()
    }

    #[test]
    fn bare_artifacts_see_the_files_of_the_pod_and_cannot_write_them() {
        let (module, digest) = (PathBuf::from("/m"), String::new());
        let bare = build(Form::WasmArtifact { module, digest }, Vec::new());
        let files = [
            ("/data", false),
            ("/etc/hosts", true),
            ("/etc/hostname", true),
            ("/etc/resolv.conf", true),
        ];
        assert_eq!(read_only(&bare), files);
        assert_eq!(bare.args, ["hello"]);
        let entrypoint = "/app.wasm".to_owned();
        let rootfs = build(Form::WasmRootfs { entrypoint }, vec!["/layer".into()]);
        assert!(rootfs.preopens.iter().all(|preopen| !preopen.read_only));
    }

    #[test]
    fn the_guest_meets_its_limit_before_the_kernel_does() {
        let entrypoint = "/app.wasm".to_owned();
        let spec = build(Form::WasmRootfs { entrypoint }, vec!["/layer".into()]);
        assert_eq!(spec.memory_limit, Some(60 << 20));
        assert_eq!(guest_memory(8 << 20), 6 << 20);
        assert_eq!(guest_memory(0), 0);
    }
}
