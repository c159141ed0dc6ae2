//! The compiler: untrusted WebAssembly in, native code out, by file descriptor, in a process with nothing to lose.
//!
//! A compiler is a large program fed with whatever somebody pushed to a registry. So it runs as `nobody`, without
//! capabilities, with a system call filter that leaves it memory, threads and its three descriptors, and with limits on
//! memory, CPU time and output. The node reaches it by fork and exec ([`compile_main`]), `exec` into a container by
//! fork alone ([`compile_in_child`]).
//!
//! Descriptors: 0 is the wasm file, 1 the file for the native code, 2 takes one line: a JSON [`Outcome`].

use crate::engine::{Engines, engine_for};
use crate::filter;
use crate::shape::{self, Inspected, Shape};
use catamaran_shim::privilege::{self, Capabilities, CapabilitySet, Identity};
use rustix::process::{Resource, Rlimit};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::process::ExitCode;
use wasmtime::Engine;

/// Largest wasm file that is compiled, bytes. The JavaScript components of today are about 13 MB.
pub(crate) const MODULE_MAX_BYTES: u64 = 512 << 20;

/// What one compilation may use. Arguments of the compile command override it: `memory-bytes=N cpu-secs=N output-bytes=N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limits {
    /// Private memory, bytes.
    memory_bytes: u64,
    /// CPU time of all threads, seconds. 13 MB of JavaScript engine take seven.
    cpu_secs: u64,
    /// Native code, bytes.
    output_bytes: u64,
}

impl Limits {
    const USUAL: Limits = Limits {
        memory_bytes: 4 << 30,
        cpu_secs: 300,
        output_bytes: 2 << 30,
    };

    fn overridden(mut self, arguments: impl Iterator<Item = String>) -> Limits {
        for argument in arguments {
            let Some((name, value)) = argument.split_once('=') else {
                continue;
            };
            let Ok(value) = value.parse() else { continue };
            match name {
                "memory-bytes" => self.memory_bytes = value,
                "cpu-secs" => self.cpu_secs = value,
                "output-bytes" => self.output_bytes = value,
                _ => {}
            }
        }
        self
    }
}

/// Threads a compilation may use: enough that a large file does not keep a pod waiting, few enough to leave the node to
/// its pods.
pub(crate) const THREADS_MAX: usize = 4;

const NOBODY: u32 = 65_534;

/// The compiler's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    Compiled(Inspected),
    /// One line for a user.
    Refused(String),
}

/// Body of `cata __wasm-compile`, see the module documentation for its descriptors. Call it before any thread exists.
pub fn compile_main() -> ExitCode {
    let streams = || -> io::Result<[File; 3]> {
        let copy = |fd: std::os::fd::BorrowedFd<'_>| io::Result::Ok(File::from(fd.try_clone_to_owned()?));
        Ok([
            copy(rustix::stdio::stdin())?,
            copy(rustix::stdio::stdout())?,
            copy(rustix::stdio::stderr())?,
        ])
    };
    match streams() {
        Ok([module, native, answer]) => {
            let engine = |shape| engine_for(shape).map_err(|error| format!("{error:#}"));
            let limits = Limits::USUAL.overridden(std::env::args());
            ExitCode::from(compile_confined(module, native, answer, limits, engine))
        }
        Err(_) => ExitCode::FAILURE,
    }
}

/// As [`compile_main`], for a process that was forked with the engines ready. Returns the exit code.
pub(crate) fn compile_in_child(engines: &Engines, module: File, native: File, answer: File) -> u8 {
    compile_confined(module, native, answer, Limits::USUAL, |shape| {
        Ok(engines.of(shape).clone())
    })
}

fn compile_confined(
    module: File,
    native: File,
    mut answer: File,
    limits: Limits,
    engine: impl FnOnce(Shape) -> Result<Engine, String>,
) -> u8 {
    let outcome = match confine(limits).and_then(|()| compile(module, native, engine)) {
        Ok(inspected) => Outcome::Compiled(inspected),
        Err(message) => Outcome::Refused(message.replace('\n', " ")),
    };
    let failed = matches!(outcome, Outcome::Refused(_));
    let line = serde_json::to_vec(&outcome).unwrap_or_default();
    let told = answer.write_all(&line).is_ok();
    u8::from(failed || !told)
}

/// Gives up everything but memory, threads and open descriptors.
fn confine(limits: Limits) -> Result<(), String> {
    let limit = |resource, value| {
        let wanted = Rlimit {
            current: Some(value),
            maximum: Some(value),
        };
        rustix::process::setrlimit(resource, wanted).map_err(|error| format!("cannot limit the compiler: {error}"))
    };
    limit(Resource::Data, limits.memory_bytes)?;
    limit(Resource::Cpu, limits.cpu_secs)?;
    limit(Resource::Fsize, limits.output_bytes)?;
    limit(Resource::Core, 0)?;
    let confined = || -> io::Result<()> {
        if rustix::process::geteuid().is_root() {
            privilege::drop_bounding(CapabilitySet::EMPTY)?;
            privilege::set_identity(&Identity {
                uid: NOBODY,
                gid: NOBODY,
                groups: Vec::new(),
            })?;
        }
        privilege::apply_capabilities(&Capabilities::NONE)?;
        privilege::set_no_new_privs()?;
        filter::compiler().install()
    };
    confined().map_err(|error| format!("cannot confine the compiler: {error}"))
}

fn compile(
    module: File,
    mut native: File,
    engine: impl FnOnce(Shape) -> Result<Engine, String>,
) -> Result<Inspected, String> {
    let bytes = read(module)?;
    let inspected = shape::inspect(&bytes).map_err(|error| error.to_string())?;
    let engine = engine(inspected.shape)?;
    let code = match inspected.shape {
        Shape::Command => engine.precompile_module(&bytes),
        Shape::ComponentCommand | Shape::HttpProxy => engine.precompile_component(&bytes),
    };
    let code = code.map_err(|error| format!("it is not a valid WebAssembly file: {error:#}"))?;
    native
        .write_all(&code)
        .map_err(|error| format!("cannot write the native code: {error}"))?;
    Ok(inspected)
}

fn read(module: File) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    module
        .take(MODULE_MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("cannot read the module: {error}"))?;
    if bytes.len() as u64 > MODULE_MAX_BYTES {
        return Err(format!("the module is larger than {} MiB", MODULE_MAX_BYTES >> 20));
    }
    Ok(bytes)
}

/// What a compiler that ended without an answer died of, for a user.
pub(crate) fn cause_of_death(signal: Option<i32>) -> String {
    match signal {
        Some(libc::SIGXCPU | libc::SIGKILL) => "compiling it takes more CPU time than the node allows".to_owned(),
        Some(libc::SIGXFSZ) => "its native code is larger than the node allows".to_owned(),
        Some(libc::SIGABRT) => "compiling it takes more memory than the node allows".to_owned(),
        Some(libc::SIGSYS) => "the compiler made a system call it has no use for, and was stopped".to_owned(),
        Some(other) => format!("the compiler was ended by signal {other}"),
        None => "the compiler failed without a reason".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_come_from_the_command_line() {
        let arguments = ["cata", "__wasm-compile", "cpu-secs=2", "memory-bytes=x", "other=1"];
        let limits = Limits::USUAL.overridden(arguments.into_iter().map(str::to_owned));
        assert_eq!(
            limits,
            Limits {
                cpu_secs: 2,
                ..Limits::USUAL
            }
        );
    }
}
