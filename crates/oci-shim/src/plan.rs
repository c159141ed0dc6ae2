//! From a spec to everything that will be done, before anything is done.
//!
//! Pure: it reads no file and asks no kernel, so a bad spec is refused whole, with the name of the field, and nothing
//! has to be undone. What runs later ([`crate::init`], [`crate::rootfs`]) takes no decisions of its own.

mod device_rules;
pub(crate) mod mount;
mod namespaces;
pub(crate) mod process;

pub use mount::{MountPlan, OverlayPlan, Parameter, What};
pub use namespaces::{IdMaps, Namespaces};
pub use process::ProcessPlan;

pub use crate::sys::{MountAttr, SchedAttr};

use crate::error::{Error, Result};
use catamaran_shim::privilege::{Capabilities, CapabilitySet};
use catamaran_shim::seccomp::{self, Program};
use oci_spec::runtime::{Hooks, Linux, LinuxDevice, LinuxDeviceType, LinuxPersonalityDomain, LinuxResources, Spec};
use rustix::fs::FileType;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Everything about one container, decided.
#[derive(Debug)]
pub struct Plan {
    pub id: String,
    pub bundle: PathBuf,
    pub oci_version: String,
    pub root: PathBuf,
    pub overlay: Option<OverlayPlan>,
    pub read_only_root: bool,
    /// Propagation of the root mount and whether for the whole tree.
    pub root_propagation: (u64, bool),
    pub namespaces: Namespaces,
    pub id_maps: Option<IdMaps>,
    pub mounts: Vec<MountPlan>,
    /// A process whose `/dev/shm` takes the place of the own one.
    pub shared_memory_of: Option<i32>,
    pub devices: Vec<DevicePlan>,
    pub masked_paths: Vec<PathBuf>,
    pub readonly_paths: Vec<PathBuf>,
    pub hostname: Option<String>,
    pub domainname: Option<String>,
    /// Files below `/proc/sys` and their new content.
    pub sysctls: Vec<(PathBuf, String)>,
    pub personality: Option<u64>,
    /// Below every hierarchy's root.
    pub cgroup: String,
    pub resources: LinuxResources,
    pub process: ProcessPlan,
    pub hooks: Hooks,
    pub annotations: HashMap<String, String>,
    /// Move the root over `/` instead of pivoting: for an initramfs, which cannot be pivoted away.
    pub no_pivot: bool,
    /// Give the container a session keyring of its own instead of the caller's.
    pub new_keyring: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DevicePlan {
    pub path: PathBuf,
    pub kind: FileType,
    pub device: u64,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

/// Reads and plans the spec of `bundle`.
pub fn load(id: &str, bundle: &Path) -> Result<Plan> {
    plan(id, bundle, &read_spec(bundle)?)
}

pub fn read_spec(bundle: &Path) -> Result<Spec> {
    let path = bundle.join("config.json");
    let bytes = std::fs::read(&path).map_err(|source| Error::Read {
        path: path.clone(),
        source,
    })?;
    serde_json::from_slice(&bytes).map_err(|source| Error::Parse { path, source })
}

/// Container ids become file names and cgroup names.
pub fn check_id(id: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
    if id.is_empty() || id.len() > 1024 || id.starts_with('.') || !id.chars().all(plain) {
        return Err(Error::Refused(format!(
            "container id {id:?} must consist of letters, digits and _ + - ."
        )));
    }
    Ok(())
}

pub fn plan(id: &str, bundle: &Path, spec: &Spec) -> Result<Plan> {
    check_id(id)?;
    check_version(spec.version())?;
    let nothing = Linux::rootless(0, 0);
    let linux = spec.linux().as_ref().unwrap_or(&nothing);
    check_unsupported(linux)?;
    let root = spec.root().as_ref().ok_or_else(|| Error::spec("root", "is required"))?;
    if root.path().as_os_str().is_empty() {
        return Err(Error::spec("root.path", "must not be empty"));
    }
    let namespaces = namespaces::namespaces(linux)?;
    namespaces::check_namespace_uses(spec, linux, &namespaces)?;
    let process = spec
        .process()
        .as_ref()
        .ok_or_else(|| Error::spec("process", "is required"))?;
    let (overlay, mounts) = mounts(spec, bundle)?;
    Ok(Plan {
        id: id.to_owned(),
        bundle: bundle.to_owned(),
        oci_version: spec.version().clone(),
        root: bundle.join(root.path()),
        overlay,
        read_only_root: root.readonly().unwrap_or(false),
        root_propagation: root_propagation(linux)?,
        id_maps: namespaces::id_maps(linux, &namespaces)?,
        namespaces,
        shared_memory_of: None,
        mounts,
        devices: devices(linux.devices().as_deref().unwrap_or_default())?,
        masked_paths: absolute("linux.maskedPaths", linux.masked_paths())?,
        readonly_paths: absolute("linux.readonlyPaths", linux.readonly_paths())?,
        hostname: spec.hostname().clone().filter(|name| !name.is_empty()),
        domainname: spec.domainname().clone().filter(|name| !name.is_empty()),
        sysctls: namespaces::sysctls(linux)?,
        personality: personality(linux)?,
        cgroup: cgroup(linux, id),
        resources: device_rules::complete(
            linux.resources().as_ref().unwrap_or(&LinuxResources::default()),
            linux.devices().as_deref().unwrap_or_default(),
        ),
        process: process::plan(process, seccomp(spec)?)?,
        hooks: hooks(spec)?,
        annotations: spec.annotations().clone().unwrap_or_default(),
        no_pivot: false,
        new_keyring: true,
    })
}

fn check_version(version: &str) -> Result<()> {
    if version.split('.').next() == Some("1") {
        return Ok(());
    }
    Err(Error::spec("ociVersion", format!("{version:?} is not a 1.x version")))
}

fn check_unsupported(linux: &Linux) -> Result<()> {
    let asked = [
        ("linux.intelRdt", linux.intel_rdt().is_some()),
        ("linux.memoryPolicy", linux.memory_policy().is_some()),
        (
            "linux.netDevices",
            linux.net_devices().as_ref().is_some_and(|map| !map.is_empty()),
        ),
        (
            "linux.timeOffsets",
            linux.time_offsets().as_ref().is_some_and(|map| !map.is_empty()),
        ),
    ];
    match asked.iter().find(|(_, asked)| *asked) {
        Some((field, _)) => Err(Error::spec(*field, "is not supported")),
        None => Ok(()),
    }
}

fn root_propagation(linux: &Linux) -> Result<(u64, bool)> {
    match linux.rootfs_propagation().as_deref() {
        None | Some("") => Ok((libc::MS_SLAVE, true)),
        Some(name) => mount::propagation(name).ok_or_else(|| {
            Error::spec(
                "linux.rootfsPropagation",
                format!("{name:?} is none of shared, slave, private, unbindable"),
            )
        }),
    }
}

fn mounts(spec: &Spec, bundle: &Path) -> Result<(Option<OverlayPlan>, Vec<MountPlan>)> {
    let list = spec.mounts().as_deref().unwrap_or_default();
    let is_root = |mount: &oci_spec::runtime::Mount| {
        mount.destination() == Path::new("/") && mount.typ().as_deref() == Some("overlay")
    };
    let (overlay, rest, offset) = match list.split_first() {
        Some((first, rest)) if is_root(first) => (Some(mount::overlay(first)?), rest, 1),
        _ => (None, list, 0),
    };
    let plans = rest
        .iter()
        .enumerate()
        .map(|(index, entry)| mount::plan(index + offset, entry, bundle));
    Ok((overlay, plans.collect::<Result<_>>()?))
}

/// The devices every container has: name, major, minor.
const DEFAULT_DEVICES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

fn devices(asked: &[LinuxDevice]) -> Result<Vec<DevicePlan>> {
    let mut plans: Vec<DevicePlan> = DEFAULT_DEVICES
        .iter()
        .map(|(name, major, minor)| DevicePlan {
            path: Path::new("/dev").join(name),
            kind: FileType::CharacterDevice,
            device: rustix::fs::makedev(*major, *minor),
            mode: 0o666,
            uid: 0,
            gid: 0,
        })
        .collect();
    for (index, device) in asked.iter().enumerate() {
        let field = |name| format!("linux.devices[{index}].{name}");
        let kind = match device.typ() {
            LinuxDeviceType::C | LinuxDeviceType::U => FileType::CharacterDevice,
            LinuxDeviceType::B => FileType::BlockDevice,
            LinuxDeviceType::P => FileType::Fifo,
            LinuxDeviceType::A => return Err(Error::spec(field("type"), "must be b, c, u or p")),
        };
        let number = |value: i64, name| u32::try_from(value).map_err(|_| Error::spec(field(name), "is out of range"));
        let path = Path::new("/").join(device.path());
        plans.retain(|earlier| earlier.path != path);
        plans.push(DevicePlan {
            path,
            kind,
            device: rustix::fs::makedev(number(device.major(), "major")?, number(device.minor(), "minor")?),
            mode: device.file_mode().unwrap_or(0o666) & 0o7777,
            uid: device.uid().unwrap_or(0),
            gid: device.gid().unwrap_or(0),
        });
    }
    Ok(plans)
}

fn absolute(field: &str, list: &Option<Vec<String>>) -> Result<Vec<PathBuf>> {
    let check = |(index, text): (usize, &String)| match Path::new(text) {
        path if path.is_absolute() => Ok(path.to_owned()),
        _ => Err(Error::spec(
            format!("{field}[{index}]"),
            format!("{text:?} is not an absolute path"),
        )),
    };
    list.iter().flatten().enumerate().map(check).collect()
}

fn personality(linux: &Linux) -> Result<Option<u64>> {
    let Some(personality) = linux.personality() else {
        return Ok(None);
    };
    if personality.flags().as_ref().is_some_and(|flags| !flags.is_empty()) {
        return Err(Error::spec("linux.personality.flags", "are not supported"));
    }
    Ok(Some(match personality.domain() {
        LinuxPersonalityDomain::PerLinux => 0,
        LinuxPersonalityDomain::PerLinux32 => 8,
    }))
}

fn cgroup(linux: &Linux, id: &str) -> String {
    match linux.cgroups_path() {
        Some(path) if !path.as_os_str().is_empty() => Path::new("/").join(path).display().to_string(),
        _ => format!("/catamaran-oci-{id}"),
    }
}

/// The filter of the container: `linux.seccomp`, or the built-in policy where an annotation asks for it.
pub(crate) fn seccomp(spec: &Spec) -> Result<Option<Program>> {
    if let Some(profile) = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref()) {
        return Program::from_oci(profile)
            .map(Some)
            .map_err(|error| Error::Refused(format!("config.json: {error}")));
    }
    match spec
        .annotations()
        .as_ref()
        .and_then(|map| map.get(seccomp::ANNOTATION))
        .map(String::as_str)
    {
        None => Ok(None),
        Some("RuntimeDefault") => Ok(Some(Program::runtime_default(bounding(spec)))),
        Some(other) => Err(Error::spec(
            format!("annotations[{:?}]", seccomp::ANNOTATION),
            format!("{other:?} is not RuntimeDefault"),
        )),
    }
}

fn bounding(spec: &Spec) -> CapabilitySet {
    let capabilities = spec
        .process()
        .as_ref()
        .and_then(|process| process.capabilities().as_ref());
    capabilities.map_or(CapabilitySet::EMPTY, |oci| Capabilities::from_oci(oci).bounding)
}

#[allow(deprecated, reason = "prestart hooks are deprecated, and still in use")]
fn hooks(spec: &Spec) -> Result<Hooks> {
    let hooks = spec.hooks().clone().unwrap_or_default();
    let all = [
        ("prestart", hooks.prestart()),
        ("createRuntime", hooks.create_runtime()),
        ("createContainer", hooks.create_container()),
        ("startContainer", hooks.start_container()),
        ("poststart", hooks.poststart()),
        ("poststop", hooks.poststop()),
    ];
    for (name, list) in all {
        for (index, hook) in list.iter().flatten().enumerate() {
            if !hook.path().is_absolute() {
                return Err(Error::spec(
                    format!("hooks.{name}[{index}].path"),
                    "is not an absolute path",
                ));
            }
            if hook.timeout().is_some_and(|seconds| seconds <= 0) {
                return Err(Error::spec(
                    format!("hooks.{name}[{index}].timeout"),
                    "must be positive",
                ));
            }
        }
    }
    Ok(hooks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    fn base() -> Value {
        json!({"ociVersion": "1.0.2", "root": {"path": "rootfs"},
               "process": {"user": {"uid": 0, "gid": 0}, "args": ["true"], "cwd": "/"},
               "linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}]}})
    }

    fn plan_of(value: Value) -> Result<Plan> {
        plan(
            "id",
            Path::new("/bundle"),
            &serde_json::from_value(value).expect("a spec"),
        )
    }

    /// The error of the base spec with one field replaced.
    fn check(pointer: &str, value: Value, expected: &Expect) {
        let mut spec = base();
        let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
        spec.pointer_mut(parent).expect("exists")[key] = value;
        expected.assert_eq(&plan_of(spec).expect_err("refused").line());
    }

    #[test]
    fn bad_specs_are_refused_with_the_field() {
        check(
            "/ociVersion",
            json!("0.9"),
            &expect![[r#"config.json: ociVersion: "0.9" is not a 1.x version"#]],
        );
        check(
            "/process/args",
            json!([]),
            &expect!["config.json: process.args: must name a program"],
        );
        check(
            "/process/args",
            json!(["a\0b"]),
            &expect!["config.json: process.args[0]: contains a null byte"],
        );
        check(
            "/process/cwd",
            json!("tmp"),
            &expect![[r#"config.json: process.cwd: "tmp" is not an absolute path"#]],
        );
        check(
            "/process/oomScoreAdj",
            json!(2000),
            &expect!["config.json: process.oomScoreAdj: 2000 is not between -1000 and 1000"],
        );
        check(
            "/process/rlimits",
            json!([{"type": "RLIMIT_NOFILE", "soft": 2, "hard": 1}]),
            &expect!["config.json: process.rlimits[0].soft: is larger than hard"],
        );
        check(
            "/linux/namespaces",
            json!([{"type": "pid"}]),
            &expect!["config.json: linux.namespaces: must contain a mount namespace"],
        );
        check(
            "/linux/namespaces",
            json!([{"type": "mount"}, {"type": "pid"}, {"type": "pid"}]),
            &expect!["config.json: linux.namespaces[2].type: pid is given twice"],
        );
        check(
            "/linux/sysctl",
            json!({"net.core.somaxconn": "1"}),
            &expect![[r#"config.json: linux.sysctl["net.core.somaxconn"]: needs a network namespace"#]],
        );
        check(
            "/linux/sysctl",
            json!({"vm.swappiness": "1"}),
            &expect![[r#"config.json: linux.sysctl["vm.swappiness"]: is not in a separate kernel namespace"#]],
        );
        check(
            "/linux/maskedPaths",
            json!(["proc"]),
            &expect![[r#"config.json: linux.maskedPaths[0]: "proc" is not an absolute path"#]],
        );
        check(
            "/linux/rootfsPropagation",
            json!("sharedish"),
            &expect![[
                r#"config.json: linux.rootfsPropagation: "sharedish" is none of shared, slave, private, unbindable"#
            ]],
        );
        check(
            "/hostname",
            json!("x"),
            &expect!["config.json: hostname: needs a uts namespace in linux.namespaces"],
        );
        check(
            "/hooks",
            json!({"poststop": [{"path": "true"}]}),
            &expect!["config.json: hooks.poststop[0].path: is not an absolute path"],
        );
        check(
            "/linux/uidMappings",
            json!([{"containerID": 0, "hostID": 1000, "size": 1}]),
            &expect!["config.json: linux.uidMappings: needs a user namespace in linux.namespaces"],
        );
    }

    #[test]
    fn devices_of_the_spec_replace_default_ones() {
        let mut spec = base();
        spec["linux"]["devices"] =
            json!([{"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 384, "uid": 5}]);
        let plan = plan_of(spec).expect("valid");
        assert_eq!(plan.devices.len(), 6);
        let null = plan
            .devices
            .iter()
            .find(|device| device.path == Path::new("/dev/null"))
            .expect("there");
        assert_eq!((null.mode, null.uid), (0o600, 5));
    }

    #[test]
    fn the_root_overlay_is_not_a_mount() {
        let mut spec = base();
        spec["mounts"] = json!([{"destination": "/", "type": "overlay", "options": ["lowerdir=/a"]},
                                {"destination": "/proc", "type": "proc"}]);
        let plan = plan_of(spec).expect("valid");
        assert_eq!(plan.mounts.len(), 1);
        assert!(plan.overlay.is_some());
    }

    #[test]
    fn ids_are_file_names() {
        for id in ["", "a/b", "..", ".hidden", "a b", "ü"] {
            assert!(check_id(id).is_err(), "{id:?}");
        }
        check_id("web-1_a.b+c").expect("fine");
    }

    #[test]
    fn sysctl_names_become_paths() {
        let mut spec = base();
        spec["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "network"}]);
        spec["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1", "net/ipv4/conf/eth0.1/rp_filter": "0"});
        let paths: Vec<_> = plan_of(spec)
            .expect("valid")
            .sysctls
            .into_iter()
            .map(|(path, _)| path)
            .collect();
        assert_eq!(
            paths,
            [
                Path::new("/proc/sys/net/ipv4/conf/eth0.1/rp_filter"),
                Path::new("/proc/sys/net/ipv4/ip_forward")
            ]
        );
    }
}
