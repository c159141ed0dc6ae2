//! The OCI runtime spec of a Linux container. Pure, but for listing the host's devices for privileged containers.
//!
//! Defaults are containerd's: 14 capabilities, masked and read-only paths, a device allow-list, RuntimeDefault seccomp.
//! Network, IPC and UTS namespaces are the pod shim's and therefore absent here; the PID namespace is too when shared.

use super::{Input, command_line};
use catamaran_shim::privilege::{CAPABILITY_NAMES, DEFAULT_CAPABILITIES, MASKED_PATHS, READONLY_PATHS};
use k8s_openapi::api::core::v1::Container;
use oci_spec::runtime::LinuxResources;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// Builds `config.json`.
///
/// # Errors
/// The message of a `CreateContainerError` or `CreateContainerConfigError`.
pub(crate) fn spec(input: &Input<'_>, resources: &LinuxResources) -> Result<Value, String> {
    let privileged = input.privileged();
    let container = input.container;
    let security = container.security_context.as_ref();
    let capabilities = capabilities(container, privileged)?;
    let unmasked = privileged || security.and_then(|s| s.proc_mount.as_deref()) == Some("Unmasked");
    let share_pid = input.spec().and_then(|spec| spec.share_process_namespace) == Some(true);
    let mut namespaces = vec![json!({"type": "mount"})];
    if !share_pid {
        namespaces.push(json!({"type": "pid"}));
    }
    // With several hierarchies containerd leaves containers in the host's, because older programs look for their paths.
    if input.unified_cgroups {
        namespaces.push(json!({"type": "cgroup"}));
    }
    let mut resources = serde_json::to_value(resources).map_err(|error| error.to_string())?;
    resources["devices"] = device_rules(privileged);
    let (masked, read_only): (&[&str], &[&str]) = if unmasked {
        (&[], &[])
    } else {
        (&MASKED_PATHS, &READONLY_PATHS)
    };
    let annotations = if input.seccomp() {
        json!({"dev.catamaran.seccomp": "RuntimeDefault"})
    } else {
        json!({})
    };
    let working_dir = container.working_dir.clone().filter(|dir| !dir.is_empty());
    let image_dir = Some(input.image.config.working_dir.clone()).filter(|dir| !dir.is_empty());
    Ok(json!({
        "ociVersion": "1.2.0",
        "process": {
            "terminal": container.tty.unwrap_or(false),
            "user": {
                "uid": input.identity.uid,
                "gid": input.identity.gid,
                "additionalGids": input.identity.groups,
            },
            "args": command_line(&input.image.config, container, &input.environment)?,
            "env": input.environment.lines(),
            "cwd": working_dir.or(image_dir).unwrap_or_else(|| "/".to_owned()),
            "capabilities": {
                "bounding": capabilities,
                "effective": capabilities,
                "permitted": capabilities,
            },
            "noNewPrivileges": security.and_then(|s| s.allow_privilege_escalation) == Some(false),
            "oomScoreAdj": input.oom_score_adj,
        },
        "root": {"path": input.bundle.join("rootfs"), "readonly": input.read_only_root()},
        "mounts": mounts(input, privileged),
        "annotations": annotations,
        "linux": {
            "namespaces": namespaces,
            "cgroupsPath": input.cgroup,
            "resources": resources,
            "devices": if privileged { host_devices(Path::new("/dev")) } else { Vec::new() },
            "maskedPaths": masked,
            "readonlyPaths": read_only,
        },
    }))
}

fn mounts(input: &Input<'_>, privileged: bool) -> Vec<Value> {
    let mut all = vec![
        root_overlay(input),
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount(
            "/dev",
            "tmpfs",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
    ];
    let sys: &[&str] = if privileged {
        &["nosuid", "noexec", "nodev"]
    } else {
        &["nosuid", "noexec", "nodev", "ro"]
    };
    all.push(mount("/sys", "sysfs", "sysfs", sys));
    let volumes: BTreeSet<&str> = input.mounts.iter().map(|mount| mount.target.as_str()).collect();
    if !volumes.contains("/sys/fs/cgroup") {
        all.push(mount("/sys/fs/cgroup", "cgroup", "cgroup", sys));
    }
    if !volumes.contains("/dev/shm") {
        all.push(match &input.shared_memory {
            Some(directory) => bind(directory, "/dev/shm", &["nosuid", "noexec", "nodev"]),
            None => mount(
                "/dev/shm",
                "tmpfs",
                "shm",
                &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
            ),
        });
    }
    // Parents before what lies in them, whatever order the spec has.
    let mut binds: Vec<_> = input.mounts.iter().collect();
    binds.sort_by_key(|mount| mount.target.split('/').filter(|part| !part.is_empty()).count());
    let options = |read_only: bool| if read_only { "ro" } else { "rw" };
    all.extend(
        binds
            .iter()
            .map(|mount| bind(&mount.source, &mount.target, &["rprivate", options(mount.read_only)])),
    );
    all
}

fn root_overlay(input: &Input<'_>) -> Value {
    let mut options: Vec<String> = input
        .root
        .lower_dirs
        .iter()
        .map(|directory| format!("lowerdir={}", directory.display()))
        .collect();
    // Read-only roots have a writable layer too: mount points that the image lacks are made in it, then it is sealed.
    options.push(format!("upperdir={}", input.container_dir.join("upper").display()));
    options.push(format!("workdir={}", input.container_dir.join("work").display()));
    json!({"destination": "/", "type": "overlay", "source": "overlay", "options": options})
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Value {
    json!({"destination": destination, "type": kind, "source": source, "options": options})
}

fn bind(source: &Path, destination: &str, options: &[&str]) -> Value {
    let options: Vec<_> = ["rbind"].iter().chain(options).collect();
    json!({"destination": destination, "type": "bind", "source": source, "options": options})
}

/// The container's capabilities: defaults, plus `add`, minus `drop`; `ALL` stands for every one.
fn capabilities(container: &Container, privileged: bool) -> Result<BTreeSet<String>, String> {
    let all = || {
        CAPABILITY_NAMES
            .iter()
            .map(|name| (*name).to_owned())
            .collect::<BTreeSet<_>>()
    };
    if privileged {
        return Ok(all());
    }
    let mut set: BTreeSet<String> = DEFAULT_CAPABILITIES.iter().map(|name| (*name).to_owned()).collect();
    let Some(asked) = container
        .security_context
        .as_ref()
        .and_then(|s| s.capabilities.as_ref())
    else {
        return Ok(set);
    };
    let named = |name: &String| -> Result<String, String> {
        let upper = name.to_ascii_uppercase();
        let full = if upper.starts_with("CAP_") {
            upper
        } else {
            format!("CAP_{upper}")
        };
        match CAPABILITY_NAMES.contains(&full.as_str()) {
            true => Ok(full),
            false => Err(format!("unknown capability \"{name}\" in securityContext.capabilities")),
        }
    };
    let is_all = |names: &Option<Vec<String>>| names.iter().flatten().any(|name| name.eq_ignore_ascii_case("ALL"));
    if is_all(&asked.add) {
        set = all();
    }
    if is_all(&asked.drop) {
        set.clear();
    }
    for name in asked
        .add
        .iter()
        .flatten()
        .filter(|name| !name.eq_ignore_ascii_case("ALL"))
    {
        set.insert(named(name)?);
    }
    for name in asked
        .drop
        .iter()
        .flatten()
        .filter(|name| !name.eq_ignore_ascii_case("ALL"))
    {
        set.remove(&named(name)?);
    }
    Ok(set)
}

/// Devices denied but for the harmless ones every container has.
fn device_rules(privileged: bool) -> Value {
    if privileged {
        return json!([{"allow": true, "access": "rwm"}]);
    }
    let allow =
        |major: i64, minor: i64| json!({"allow": true, "type": "c", "major": major, "minor": minor, "access": "rwm"});
    json!([
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "access": "m"},
        {"allow": true, "type": "b", "access": "m"},
        allow(1, 3),
        allow(1, 5),
        allow(1, 7),
        allow(1, 8),
        allow(1, 9),
        allow(5, 0),
        allow(5, 1),
        allow(5, 2),
        {"allow": true, "type": "c", "major": 136, "access": "rwm"},
    ])
}

/// Every device node of the host, for a privileged container.
fn host_devices(directory: &Path) -> Vec<Value> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(directory) else {
        return found;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let (Ok(metadata), name) = (std::fs::symlink_metadata(&path), entry.file_name()) else {
            continue;
        };
        if metadata.is_dir() && !["pts", "shm", "mqueue", "fd"].iter().any(|skipped| name == *skipped) {
            found.extend(host_devices(&path));
            continue;
        }
        let kind = match metadata.file_type() {
            kind if kind.is_char_device() => "c",
            kind if kind.is_block_device() => "b",
            _ => continue,
        };
        if name == "console" {
            continue;
        }
        let device = metadata.rdev();
        found.push(json!({
            "path": path, "type": kind, "major": rustix::fs::major(device), "minor": rustix::fs::minor(device),
            "fileMode": metadata.mode() & 0o7777, "uid": metadata.uid(), "gid": metadata.gid(),
        }));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::{BindMount, complete_environment};
    use super::*;
    use crate::env::Environment;
    use crate::users::Identity;
    use catamaran_image::{Config, Form, Image, Root};
    use expect_test::{Expect, expect};
    use k8s_openapi::api::core::v1::Pod;
    use oci_spec::runtime::Spec;

    fn build(container: &Value) -> Spec {
        let container: Container = serde_json::from_value(container.clone()).expect("a container");
        let pod: Pod = serde_json::from_value(json!({"spec": {"containers": []}})).expect("a pod");
        let image = Image {
            id: "sha256:1".into(),
            manifest: "sha256:2".into(),
            names: Vec::new(),
            digests: Vec::new(),
            size: 0,
            os: "linux".into(),
            architecture: "amd64".into(),
            created: None,
            config: Config {
                entrypoint: vec!["/app".into()],
                working_dir: "/srv".into(),
                ..Config::default()
            },
            form: Form::Linux,
        };
        let identity = Identity {
            uid: 7,
            gid: 8,
            groups: vec![9],
            home: None,
        };
        let mounts = vec![
            BindMount {
                source: "/host/a/b".into(),
                target: "/a/b".into(),
                read_only: true,
            },
            BindMount {
                source: "/host/a".into(),
                target: "/a".into(),
                read_only: false,
            },
        ];
        let input = Input {
            pod: &pod,
            container: &container,
            image: &image,
            root: &Root {
                lower_dirs: vec!["/l/1".into(), "/l/0".into()],
            },
            environment: complete_environment(&image.config, &Environment::default(), "h", &identity, false),
            identity,
            mounts,
            bundle: Path::new("/bundle"),
            container_dir: Path::new("/c"),
            cgroup: "/catamaran-x/podu/id".into(),
            unified_cgroups: false,
            oom_score_adj: 1000,
            shared_memory: None,
        };
        let value = spec(&input, &crate::resources::container_resources(&container)).expect("a spec");
        serde_json::from_value(value).expect("a valid OCI spec")
    }

    fn check(container: &Value, pick: impl Fn(&Spec) -> String, expected: &Expect) {
        expected.assert_eq(&pick(&build(container)));
    }

    fn targets(spec: &Spec) -> String {
        let mounts = spec.mounts().iter().flatten();
        mounts
            .map(|mount| mount.destination().display().to_string())
            .collect::<Vec<_>>()
            .join(" ")
    }

    fn capabilities_of(spec: &Spec) -> usize {
        let process = spec.process().as_ref().expect("a process");
        process
            .capabilities()
            .as_ref()
            .and_then(|all| all.bounding().as_ref())
            .map_or(0, std::collections::HashSet::len)
    }

    #[test]
    fn mounts_come_in_an_order_that_hides_nothing() {
        check(
            &json!({"name": "c"}),
            targets,
            &expect!["/ /proc /dev /dev/pts /dev/mqueue /sys /sys/fs/cgroup /dev/shm /a /a/b"],
        );
    }

    #[test]
    fn process_follows_image_and_spec() {
        let spec = build(&json!({"name": "c", "args": ["x"]}));
        let process = spec.process().as_ref().expect("a process");
        assert_eq!(process.args().as_deref().unwrap_or_default(), ["/app", "x"]);
        assert_eq!(
            (
                process.user().uid(),
                process.user().gid(),
                process.cwd().display().to_string().as_str()
            ),
            (7, 8, "/srv")
        );
        assert_eq!(process.no_new_privileges(), Some(false));
        let annotations = spec.annotations().as_ref().expect("annotations");
        assert_eq!(annotations["dev.catamaran.seccomp"], "RuntimeDefault");
    }

    #[test]
    fn privileges_are_given_and_taken() {
        assert_eq!(capabilities_of(&build(&json!({"name": "c"}))), 14);
        let dropped =
            json!({"name": "c", "securityContext": {"capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]}}});
        assert_eq!(capabilities_of(&build(&dropped)), 1);
        let privileged = build(&json!({"name": "c", "securityContext": {"privileged": true}}));
        assert_eq!(capabilities_of(&privileged), 41);
        let linux = privileged.linux().as_ref().expect("linux");
        assert!(linux.masked_paths().as_ref().is_none_or(Vec::is_empty));
        assert!(
            !privileged
                .annotations()
                .as_ref()
                .expect("annotations")
                .contains_key("dev.catamaran.seccomp")
        );
    }

    #[test]
    fn limits_reach_the_cgroup() {
        let limits = json!({"limits": {"cpu": "250m", "memory": "64Mi"}});
        let spec = build(&json!({"name": "c", "resources": limits}));
        let resources = spec
            .linux()
            .as_ref()
            .and_then(|linux| linux.resources().as_ref())
            .expect("resources");
        let cpu = resources.cpu().as_ref().expect("cpu");
        assert_eq!(
            (cpu.shares(), cpu.quota(), cpu.period()),
            (Some(256), Some(25_000), Some(100_000))
        );
        assert_eq!(
            resources
                .memory()
                .as_ref()
                .and_then(oci_spec::runtime::LinuxMemory::limit),
            Some(64 << 20)
        );
    }
}
