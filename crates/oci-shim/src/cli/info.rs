//! The verbs that only tell something.

use super::args::{parse, switch, value};
use super::state::{Dir, ids};
use super::{Context, Outcome};
use catamaran_shim::privilege::{CAPABILITY_NAMES, DEFAULT_CAPABILITIES, MASKED_PATHS, READONLY_PATHS};
use serde_json::json;
use std::path::Path;

/// The newest runtime spec this follows.
const OCI_VERSION: &str = "1.2.0";

pub(super) fn version() -> Outcome {
    println!("cata oci version {}\nspec: {OCI_VERSION}", env!("CARGO_PKG_VERSION"));
    Ok(0)
}

pub(super) fn list(context: &Context, args: &[String]) -> Outcome {
    let options = parse(args, &[switch("quiet", Some("q")), value("format", Some("f"))])?;
    let found = ids(&context.root).into_iter().filter_map(|id| {
        let dir = Dir::new(&context.root, &id).ok()?;
        let state = dir.load().ok()?;
        Some(dir.show(&state))
    });
    let found: Vec<serde_json::Value> = found.collect();
    let text = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match options.get("format") {
        _ if options.has("quiet") => found.iter().for_each(|state| println!("{}", text(&state["id"]))),
        Some("json") => println!("{}", json!(found)),
        None | Some("table") => {
            let row = |cells: [&str; 5]| {
                println!(
                    "{:<24} {:<8} {:<10} {:<40} {}",
                    cells[0], cells[1], cells[2], cells[3], cells[4]
                );
            };
            row(["ID", "PID", "STATUS", "BUNDLE", "CREATED"]);
            for state in &found {
                let cell = |name: &str| text(&state[name]);
                row([
                    &cell("id"),
                    &cell("pid"),
                    &cell("status"),
                    &cell("bundle"),
                    &cell("created"),
                ]);
            }
        }
        Some(other) => return Err(format!("--format {other:?} is neither table nor json").into()),
    }
    Ok(0)
}

pub(super) fn spec(args: &[String]) -> Outcome {
    let options = parse(args, &[value("bundle", Some("b"))])?;
    let path = Path::new(options.get("bundle").unwrap_or(".")).join("config.json");
    if path.exists() {
        return Err(format!("{} exists already", path.display()).into());
    }
    std::fs::write(&path, format!("{:#}\n", default_spec()))
        .map_err(|error| format!("write {}: {error}", path.display()))?;
    Ok(0)
}

/// A bundle's beginning: a shell with the defaults of a container.
pub(crate) fn default_spec() -> serde_json::Value {
    let mount = |destination: &str, kind: &str, options: &[&str]| json!({"destination": destination, "type": kind, "source": kind, "options": options});
    json!({
        "ociVersion": OCI_VERSION,
        "process": {
            "terminal": true,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {
                "bounding": DEFAULT_CAPABILITIES, "effective": DEFAULT_CAPABILITIES, "permitted": DEFAULT_CAPABILITIES,
            },
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "cata",
        "mounts": [
            mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
            mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            mount("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
        ],
        "annotations": {(catamaran_shim::seccomp::ANNOTATION): "RuntimeDefault"},
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [{"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "cgroup"}],
            "maskedPaths": MASKED_PATHS,
            "readonlyPaths": READONLY_PATHS,
        },
    })
}

/// What this runtime can do, see the runtime spec, "Features".
pub(super) fn features() -> Outcome {
    let features = json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": OCI_VERSION,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": [
            "bind", "rbind", "ro", "rro", "rw", "rrw", "suid", "rsuid", "nosuid", "rnosuid", "dev", "rdev", "nodev", "rnodev",
            "exec", "rexec", "noexec", "rnoexec", "atime", "noatime", "rnoatime", "relatime", "rrelatime", "strictatime",
            "rstrictatime", "diratime", "nodiratime", "rnodiratime", "symfollow", "nosymfollow", "rnosymfollow", "tmpcopyup",
            "private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable",
        ],
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "user", "uts"],
            "capabilities": CAPABILITY_NAMES.as_slice(),
            "cgroup": {"v1": true, "v2": true, "systemd": false, "systemdUser": false, "rdma": false},
            "seccomp": {
                "enabled": true,
                "actions": [
                    "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD",
                    "SCMP_ACT_LOG", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP",
                ],
                "operators": [
                    "SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT",
                    "SCMP_CMP_MASKED_EQ",
                ],
                "archs": [if cfg!(target_arch = "x86_64") { "SCMP_ARCH_X86_64" } else { "SCMP_ARCH_AARCH64" }],
            },
            "apparmor": {"enabled": true},
            "selinux": {"enabled": true},
            "mountExtensions": {"idmap": {"enabled": false}},
        },
    });
    println!("{features:#}");
    Ok(0)
}
