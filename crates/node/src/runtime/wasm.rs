//! `wasm.json`: what a wasm container is told. Pure.

use super::{Input, own_words};
use crate::resources;
use catamaran_image::Form;
use catamaran_shim::spec::{Preopen, WasmSpec};
use oci_spec::runtime::LinuxResources;
use std::path::{Path, PathBuf};

const DEFAULT_HTTP_PORT: u16 = 8080;

/// Builds the spec for a wasm module at `module`, compiled to `native`.
pub(crate) fn spec(input: &Input<'_>, resources: &LinuxResources, module: &Path, native: &Path) -> WasmSpec {
    let with_root = !input.root.lower_dirs.is_empty();
    let preopens = input
        .mounts
        .iter()
        .filter(|mount| with_root || !is_pod_file(&mount.target))
        .map(|mount| Preopen {
            host_path: mount.source.clone(),
            guest_path: mount.target.clone(),
            read_only: mount.read_only,
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
        memory_limit: resources::memory_limit(input.container).and_then(|bytes| u64::try_from(bytes).ok()),
        uid: input.identity.uid,
        gid: input.identity.gid,
        supplemental_gids: input.identity.groups.clone(),
        http_port: http_port(input),
        seccomp: input.seccomp(),
        container_name: input.container.name.clone(),
    }
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

/// Files only a root file system has a place for.
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
