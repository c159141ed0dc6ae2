//! `exec` into a running wasm container: one more wasm program among the container's files.
//!
//! There is no shell and nothing native in there, so the command must be a wasm file: a path, or a name looked up in
//! `PATH` (with or without `.wasm`). It is compiled on the spot by a confined child, since nothing a container can write
//! to may hold native code, and then runs beside the container's program: same files, cgroup, user, filter.

use crate::child::{self, Inheritance, NOT_EXECUTABLE, Report};
use crate::compile::{self, Outcome};
use crate::engine::Engines;
use crate::guest::{World, split_env};
use crate::limits::Budget;
use crate::shape::Shape;
use crate::sys;
use crate::{command, tree};
use catamaran_shim::cgroup::{Birth, Cgroup};
use catamaran_shim::privilege::Identity;
use catamaran_shim::runtime::StartError;
use catamaran_shim::spec::WasmSpec;
use oci_spec::runtime::Process;
use rustix::fs::{MemfdFlags, Mode, OFlags};
use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

const NOT_FOUND: i32 = 127;

/// Where a bare name is looked for when the environment has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin:/";

/// What can be run, for messages.
const WHAT_RUNS: &str = "a wasm container has no shell and no native programs; \
                         exec runs WASI command modules found in its files, for example /data/tool.wasm";

/// Where the process belongs.
pub(crate) struct Place<'a> {
    pub(crate) container_pid: i32,
    pub(crate) cgroup: &'a Cgroup,
    pub(crate) birth: Birth,
}

/// The life of a process started by `exec`. Returns its exit code.
pub(crate) fn process(
    engines: &Engines,
    spec: &WasmSpec,
    process: &Process,
    place: &Place<'_>,
    own: Inheritance,
) -> i32 {
    let namespace = format!("/proc/{}/ns/mnt", place.container_pid);
    let namespace: OwnedFd = match rustix::fs::open(&namespace, OFlags::RDONLY, Mode::empty()) {
        Ok(namespace) => namespace,
        Err(errno) => {
            let error = std::io::Error::from(errno);
            let what = "the container is not running any more";
            return Report::new(own.report).failed(&child::start_error(what, &error, NOT_EXECUTABLE));
        }
    };
    let (mut report, [namespace, proc_dir]) = match child::settle(own, namespace) {
        Ok(settled) => settled,
        Err(code) => return code,
    };
    let mut prepare = || -> Result<(child::Program, World), StartError> {
        sys::set_title(&format!("wasm:{} exec", spec.container_name));
        place
            .cgroup
            .join_after(place.birth)
            .map_err(|error| child::start_error("cannot enter the cgroup", &error, NOT_EXECUTABLE))?;
        sys::enter_mount_namespace(namespace.as_fd())
            .map_err(|error| child::start_error("cannot enter the container", &error, NOT_EXECUTABLE))?;
        let args = process.args().clone().unwrap_or_default();
        let env = split_env(process.env().as_deref().unwrap_or(&spec.env));
        let (path, module) = find(args.first().map_or("", String::as_str), &env)?;
        // The caller waits for the start, not for the compiler.
        report.started();
        let (shape, native) = compiled(engines, &path, module)?;
        let dirs = tree::guest_dirs(spec);
        child::drop_privileges(&identity(process, spec))?;
        let code = child::map(engines, shape, &native, &proc_dir)?;
        let program = child::link(engines, &code, shape, &path.display().to_string())?;
        let cwd = process.cwd();
        let world = World {
            args,
            env,
            dirs,
            cwd: (!cwd.as_os_str().is_empty()).then(|| cwd.display().to_string()),
            budget: Budget::new(spec.memory_limit),
            may_block: true,
        };
        child::confine(spec.seccomp)?;
        Ok((program, world))
    };
    let prepared = prepare();
    match prepared {
        Ok((program, world)) => command::run(&program, &world, &mut report),
        Err(error) => report.failed(&error),
    }
}

fn identity(process: &Process, spec: &WasmSpec) -> Identity {
    let user = process.user();
    let groups = user
        .additional_gids()
        .clone()
        .unwrap_or_else(|| spec.supplemental_gids.clone());
    Identity {
        uid: user.uid(),
        gid: user.gid(),
        groups,
    }
}

fn refusal(message: String, exit_code: i32) -> StartError {
    StartError {
        reason: "StartError".to_owned(),
        message,
        exit_code,
    }
}

fn find(name: &str, env: &[(String, String)]) -> Result<(PathBuf, File), StartError> {
    for path in candidates(name, env) {
        let Ok(mut file) = File::open(&path) else { continue };
        if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
            continue;
        }
        let mut magic = [0; 4];
        let wasm = file.read_exact(&mut magic).is_ok() && magic == *b"\0asm" && file.rewind().is_ok();
        return if wasm {
            Ok((path, file))
        } else {
            Err(refusal(
                format!("\"{}\" is not a WebAssembly file: {WHAT_RUNS}", path.display()),
                NOT_EXECUTABLE,
            ))
        };
    }
    Err(refusal(
        format!("\"{name}\" was not found in the container's files: {WHAT_RUNS}"),
        NOT_FOUND,
    ))
}

fn candidates(name: &str, env: &[(String, String)]) -> Vec<PathBuf> {
    if name.is_empty() {
        return Vec::new();
    }
    if name.contains('/') {
        return vec![Path::new("/").join(name)];
    }
    let path = env
        .iter()
        .find(|(variable, _)| variable == "PATH")
        .map_or(DEFAULT_PATH, |(_, value)| value);
    let directories = path.split(':').filter(|directory| !directory.is_empty());
    directories
        .flat_map(|directory| {
            let directory = Path::new("/").join(directory);
            [directory.join(name), directory.join(format!("{name}.wasm"))]
        })
        .collect()
}

/// Compiles in a confined child. Needs one thread.
fn compiled(engines: &Engines, path: &Path, module: File) -> Result<(Shape, OwnedFd), StartError> {
    let failed = |error: std::io::Error| {
        child::start_error(&format!("cannot compile {}", path.display()), &error, NOT_EXECUTABLE)
    };
    let native = rustix::fs::memfd_create("native", MemfdFlags::CLOEXEC).map_err(|errno| failed(errno.into()))?;
    let (answer, theirs) = std::io::pipe().map_err(failed)?;
    let (native_file, theirs) = (File::from(native.try_clone().map_err(failed)?), OwnedFd::from(theirs));
    let pid = sys::fork(|| {
        let copies = || Ok::<_, std::io::Error>((module.try_clone()?, native_file.try_clone()?, theirs.try_clone()?));
        match copies() {
            Ok((module, native, answer)) => {
                i32::from(compile::compile_in_child(engines, module, native, answer.into()))
            }
            Err(_) => NOT_EXECUTABLE,
        }
    })
    .map_err(failed)?;
    drop((theirs, native_file, module));
    let mut line = Vec::new();
    let read = File::from(OwnedFd::from(answer)).read_to_end(&mut line);
    let pid = rustix::process::Pid::from_raw(pid).ok_or_else(|| failed(std::io::ErrorKind::InvalidData.into()))?;
    let status = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
    read.map_err(failed)?;
    let refused = |message: &str| refusal(format!("cannot run \"{}\": {message}", path.display()), NOT_EXECUTABLE);
    match serde_json::from_slice(&line) {
        Ok(Outcome::Compiled(found)) if found.shape == Shape::HttpProxy => {
            Err(refused("it is a wasi:http service, not a command"))
        }
        Ok(Outcome::Compiled(found)) => Ok((found.shape, native)),
        Ok(Outcome::Refused(message)) => Err(refused(&message)),
        Err(_) => {
            let signal = status
                .ok()
                .flatten()
                .and_then(|(_, status)| status.terminating_signal());
            Err(refused(&compile::cause_of_death(signal)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(name: &str, path: Option<&str>) -> Vec<String> {
        let env: Vec<_> = path
            .map(|path| ("PATH".to_owned(), path.to_owned()))
            .into_iter()
            .collect();
        candidates(name, &env)
            .iter()
            .map(|path| path.display().to_string())
            .collect()
    }

    #[test]
    fn names_with_a_slash_are_paths_from_the_root() {
        assert_eq!(paths("/data/tool.wasm", None), ["/data/tool.wasm"]);
        assert_eq!(paths("data/tool.wasm", None), ["/data/tool.wasm"]);
    }

    #[test]
    fn bare_names_are_looked_up_in_path() {
        assert_eq!(
            paths("tool", Some("/a::/b")),
            ["/a/tool", "/a/tool.wasm", "/b/tool", "/b/tool.wasm"]
        );
        assert_eq!(paths("", Some("/a")), Vec::<String>::new());
    }
}
