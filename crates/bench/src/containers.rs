//! C1 and C2: `run` → exit → deleted of `/bin/true` from a bundle in a network namespace that exists.
//!
//! All three runtimes are whole processes with runc's arguments; they take turns, so that noise hits them alike.

use crate::row::{Peer, Row, Samples, Target};
use anyhow::{Context, Result, bail};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

const ROUNDS: usize = 50;
const WARM_UP: usize = 3;

struct Runtime {
    name: &'static str,
    command: Vec<String>,
    samples: Samples,
    failure: Option<String>,
}

pub(crate) fn rows(cata: &Path) -> Result<Vec<Row>> {
    let directory = tempfile::tempdir()?;
    let bundle = make_bundle(directory.path())?;
    let root = |name: &str| directory.path().join(name).display().to_string();
    let installed = |name: &str| {
        ["/usr/bin", "/usr/sbin", "/usr/local/bin"]
            .iter()
            .map(|dir| format!("{dir}/{name}"))
            .find(|path| Path::new(path).exists())
    };
    let mut runtimes = vec![Runtime::new(
        "cata",
        vec![cata.display().to_string(), "oci".into(), "--root".into(), root("cata")],
        None,
    )];
    for name in ["crun", "runc"] {
        let program = installed(name);
        let missing = program.is_none().then(|| format!("{name} is not installed"));
        let command = vec![program.unwrap_or_else(|| name.to_owned()), "--root".into(), root(name)];
        runtimes.push(Runtime::new(name, command, missing));
    }
    for round in 0..ROUNDS + WARM_UP {
        for runtime in &mut runtimes {
            runtime.measure(&bundle, round);
        }
    }
    if let Some(failure) = &runtimes[0].failure {
        bail!("cata oci run failed: {failure}");
    }
    let mut rows = Vec::new();
    for percent in [50, 99] {
        let ours = runtimes[0].samples.percentile(percent);
        for (index, row, factor) in [(1, "C1", 0.6), (2, "C2", 0.2)] {
            rows.push(Row {
                name: format!("{row} run→exit→delete p{percent}"),
                ours,
                unit: "ms",
                peer: runtimes[index].peer(percent),
                target: Target::AtMostTimesPeer(factor),
            });
        }
    }
    Ok(rows)
}

impl Runtime {
    fn new(name: &'static str, command: Vec<String>, failure: Option<String>) -> Self {
        Self {
            name,
            command,
            samples: Samples::default(),
            failure,
        }
    }

    fn measure(&mut self, bundle: &Path, round: usize) {
        if self.failure.is_some() {
            return;
        }
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]);
        command
            .args(["run", "--bundle"])
            .arg(bundle)
            .arg(format!("bench-{}-{round}", self.name));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let start = Instant::now();
        let output = command.output();
        let elapsed = start.elapsed();
        match output {
            Ok(output) if output.status.success() => {
                if round >= WARM_UP {
                    self.samples.add(elapsed);
                }
            }
            Ok(output) => self.failure = Some(String::from_utf8_lossy(&output.stderr).trim().replace('\n', " ")),
            Err(error) => self.failure = Some(error.to_string()),
        }
    }

    fn peer(&mut self, percent: usize) -> Peer {
        match &self.failure {
            Some(failure) => Peer::Missing(failure.clone()),
            None => Peer::Measured(self.name, self.samples.percentile(percent)),
        }
    }
}

/// A bundle with the host's `true` and what its loader needs, the namespaces a pod's container has, and the usual mounts.
fn make_bundle(directory: &Path) -> Result<PathBuf> {
    let bundle = directory.join("bundle");
    let rootfs = bundle.join("rootfs");
    for path in ["bin", "proc", "dev", "sys", "tmp"] {
        std::fs::create_dir_all(rootfs.join(path))?;
    }
    let ldd = Command::new("ldd")
        .arg("/bin/true")
        .output()
        .context("cannot run ldd")?;
    let libraries = String::from_utf8_lossy(&ldd.stdout).into_owned();
    let libraries = libraries
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
        .map(PathBuf::from);
    for file in std::iter::once(PathBuf::from("/bin/true")).chain(libraries) {
        let target = rootfs.join(file.strip_prefix("/")?);
        std::fs::create_dir_all(target.parent().context("a parent")?)?;
        std::fs::copy(&file, &target).with_context(|| format!("cannot copy {}", file.display()))?;
    }
    let config = json!({
        "ociVersion": "1.0.2",
        "process": {"terminal": false, "user": {"uid": 0, "gid": 0}, "args": ["/bin/true"], "env": ["PATH=/bin"], "cwd": "/"},
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "bench",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k"]},
        ],
        "linux": {"namespaces": [
            {"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
            {"type": "network", "path": "/proc/1/ns/net"},
        ]},
    });
    std::fs::write(bundle.join("config.json"), serde_json::to_vec_pretty(&config)?)?;
    Ok(bundle)
}
