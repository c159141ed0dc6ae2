//! The container's process, from the fork to the first thread.
//!
//! Each step takes away what the ones before it needed: the cgroup and the mounts need the host's files, mounting needs
//! capabilities, dropping those comes before anything that depends on the container's image is read, and the system call
//! filter comes last because it forbids all of the above. Only then is there a second thread.

use crate::command;
use crate::engine::Engines;
use crate::guest::{World, split_env};
use crate::http;
use crate::limits::Budget;
use crate::shape::Shape;
use crate::sys::{self, Code};
use crate::{filter, stdio, tree};
use catamaran_shim::cgroup::{Birth, Cgroup};
use catamaran_shim::privilege::{self, Capabilities, CapabilitySet, Identity};
use catamaran_shim::runtime::StartError;
use catamaran_shim::spec::WasmSpec;
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use std::io::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use wasmtime::component::InstancePre;

/// Exit code of a program that trapped: 128 + `SIGABRT`, as if it had aborted.
pub(crate) const TRAPPED: i32 = 134;

/// Exit code of what cannot be started, where there is no more specific one.
const NOT_STARTED: i32 = 128;

/// Exit code of what was found but cannot be executed.
pub(crate) const NOT_EXECUTABLE: i32 = 126;

/// Connections waiting to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Where the child tells its parent how the start went: one JSON [`StartError`], or [`STARTED`].
pub(crate) struct Report(Option<std::fs::File>);

/// What stands in the report of a child that runs.
pub(crate) const STARTED: &[u8] = b"started";

impl Report {
    pub(crate) fn new(pipe: OwnedFd) -> Report {
        Report(Some(pipe.into()))
    }

    /// The program runs from here on. Idempotent.
    pub(crate) fn started(&mut self) {
        if let Some(mut pipe) = self.0.take() {
            let _ = pipe.write_all(STARTED);
        }
    }

    /// Tells why it does not run. After the start nobody listens any more: then the log is told.
    pub(crate) fn failed(&mut self, error: &StartError) -> i32 {
        match self.0.take() {
            Some(mut pipe) => {
                let json = serde_json::to_vec(error).unwrap_or_default();
                let _ = pipe.write_all(&json);
            }
            None => eprintln!("catamaran: {}", error.message),
        }
        error.exit_code
    }
}

/// A start error with a whole chain of causes on one line.
pub(crate) fn start_error(what: &str, error: &dyn std::error::Error, exit_code: i32) -> StartError {
    let mut message = what.to_owned();
    let mut cause = Some(error);
    while let Some(error) = cause {
        let text = error.to_string().replace('\n', " ");
        if !message.contains(text.trim()) {
            if !message.is_empty() {
                message.push_str(": ");
            }
            message.push_str(text.trim());
        }
        cause = error.source();
    }
    StartError {
        reason: "RunContainerError".to_owned(),
        message,
        exit_code,
    }
}

fn not_started(what: &str) -> impl Fn(std::io::Error) -> StartError {
    move |error| start_error(what, &error, NOT_STARTED)
}

/// Descriptors the child starts with.
pub(crate) struct Inheritance {
    pub stdio: [Option<OwnedFd>; 3],
    /// Slave side of the terminal, in place of `stdio`.
    pub terminal: Option<OwnedFd>,
    pub report: OwnedFd,
}

/// A container's first process.
pub(crate) fn container(
    engines: &Engines,
    spec: &WasmSpec,
    bundle: &Path,
    cgroup: &Cgroup,
    own: Inheritance,
    birth: Birth,
) -> i32 {
    let native = match std::fs::File::open(&spec.native) {
        Ok(file) => file.into(),
        Err(error) => {
            let what = format!("cannot open the native code {}", spec.native.display());
            return Report::new(own.report).failed(&start_error(&what, &error, NOT_STARTED));
        }
    };
    let (mut report, [native, proc_dir]) = match settle(own, native) {
        Ok(settled) => settled,
        Err(code) => return code,
    };
    let prepare = || -> Result<Linked, StartError> {
        sys::set_title(&format!("wasm:{}", spec.container_name));
        cgroup
            .join_after(birth)
            .map_err(|error| start_error("cannot enter the cgroup", &error, NOT_STARTED))?;
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        tree::enter(spec, bundle).map_err(|error| start_error("", &error, NOT_STARTED))?;
        let shape = Shape::of_native(&spec.native).ok_or_else(|| unknown_native(&spec.native))?;
        let listener = (shape == Shape::HttpProxy)
            .then(|| listen(spec.http_port))
            .transpose()?;
        let dirs = tree::guest_dirs(spec);
        let identity = Identity {
            uid: spec.uid,
            gid: spec.gid,
            groups: spec.supplemental_gids.clone(),
        };
        drop_privileges(&identity)?;
        let code = map(engines, shape, &native, &proc_dir)?;
        let program = link(engines, &code, shape, &spec.module.display().to_string())?;
        drop((native, proc_dir));
        let world = World {
            args: spec.args.clone(),
            env: split_env(&spec.env),
            dirs,
            cwd: None,
            budget: Budget::new(spec.memory_limit),
            may_block: shape != Shape::HttpProxy,
        };
        confine(spec.seccomp)?;
        Ok(Linked {
            program,
            world,
            listener,
            threads,
        })
    };
    match prepare() {
        Ok(linked) => linked.run(report),
        Err(error) => report.failed(&error),
    }
}

/// Session, signals, streams; nothing else stays open but the report, `file` and `/proc`, which outlives the change of
/// root.
pub(crate) fn settle(own: Inheritance, file: OwnedFd) -> Result<(Report, [OwnedFd; 2]), i32> {
    let Inheritance {
        stdio,
        terminal,
        report,
    } = own;
    let fail = |report: OwnedFd, error: &std::io::Error| {
        Report::new(report).failed(&start_error("cannot set up the process", error, NOT_STARTED))
    };
    let _ = rustix::process::setsid();
    sys::reset_signals();
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    sys::files_before_dns();
    if let Err(error) = connect(stdio, terminal) {
        return Err(fail(report, &error));
    }
    let proc_dir = match rustix::fs::open("/proc", rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()) {
        Ok(directory) => directory,
        Err(errno) => return Err(fail(report, &errno.into())),
    };
    match sys::keep_only([report, file, proc_dir]) {
        Ok([report, file, proc_dir]) => Ok((Report::new(report), [file, proc_dir])),
        // The report may be closed already: the parent then reads of an end without a reason.
        Err(_) => Err(NOT_STARTED),
    }
}

fn connect(stdio: [Option<OwnedFd>; 3], terminal: Option<OwnedFd>) -> std::io::Result<()> {
    let Some(terminal) = terminal else {
        return stdio::install(stdio);
    };
    rustix::process::ioctl_tiocsctty(&terminal)?;
    stdio::install([Some(terminal.try_clone()?), Some(terminal.try_clone()?), Some(terminal)])
}

/// Becomes the container's user, with no capability and no way to get one.
pub(crate) fn drop_privileges(identity: &Identity) -> Result<(), StartError> {
    let no_core = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    rustix::process::setrlimit(Resource::Core, no_core)
        .map_err(|errno| not_started("cannot set limits")(errno.into()))?;
    privilege::drop_bounding(CapabilitySet::EMPTY).map_err(not_started("cannot drop capabilities"))?;
    privilege::set_identity(identity)
        .map_err(|error| not_started(&format!("cannot become user {}:{}", identity.uid, identity.gid))(error))?;
    privilege::apply_capabilities(&Capabilities::NONE).map_err(not_started("cannot drop capabilities"))?;
    privilege::set_no_new_privs().map_err(not_started("cannot set no_new_privs"))
}

/// Maps native code from a descriptor. Its format is trusted (the node's compiler made it), but that is no reason to
/// parse it as root. The engine maps by path only, so the path leads through `/proc` to the descriptor; after a change
/// of user that takes a moment of being dumpable.
pub(crate) fn map(engines: &Engines, shape: Shape, native: &OwnedFd, proc_dir: &OwnedFd) -> Result<Code, StartError> {
    let failed = |error: std::io::Error| start_error("cannot map the native code", &error, NOT_STARTED);
    let dumpable = |how| rustix::process::set_dumpable_behavior(how).map_err(|errno| failed(errno.into()));
    dumpable(DumpableBehavior::Dumpable)?;
    rustix::process::fchdir(proc_dir).map_err(|errno| failed(errno.into()))?;
    let path = PathBuf::from(format!("self/fd/{}", native.as_raw_fd()));
    let code = sys::map_native(engines.of(shape), shape, &path);
    rustix::process::chdir("/").map_err(|errno| failed(errno.into()))?;
    dumpable(DumpableBehavior::NotDumpable)?;
    code.map_err(|error| start_error("cannot use the native code", error.as_ref(), NOT_STARTED))
}

fn unknown_native(path: &Path) -> StartError {
    let message = format!("{} is not a file of the native-code cache", path.display());
    StartError {
        reason: "RunContainerError".to_owned(),
        message,
        exit_code: NOT_STARTED,
    }
}

/// A program whose imports are all satisfied.
pub(crate) enum Program {
    Module(wasmtime::InstancePre<crate::guest::CoreGuest>),
    Component(InstancePre<crate::guest::Guest>),
    Service(InstancePre<crate::guest::Guest>),
}

/// Connects the imports, or says which one cannot be.
pub(crate) fn link(engines: &Engines, code: &Code, shape: Shape, name: &str) -> Result<Program, StartError> {
    let linked = match code {
        Code::Module(module) => engines.core_linker.instantiate_pre(module).map(Program::Module),
        Code::Component(component) if shape == Shape::HttpProxy => {
            engines.http_linker.instantiate_pre(component).map(Program::Service)
        }
        Code::Component(component) => engines
            .command_linker
            .instantiate_pre(component)
            .map(Program::Component),
    };
    linked.map_err(|error| missing_import(name, &error))
}

fn missing_import(name: &str, error: &wasmtime::Error) -> StartError {
    let offered = "a container may import WASI 0.1 (wasi_snapshot_preview1) as a module, \
                   WASI 0.2 and 0.3 (wasi:cli, clocks, filesystem, http, io, random, sockets) as a component";
    let import = match error.downcast_ref::<wasmtime::UnknownImportError>() {
        Some(unknown) => Some(format!("{}::{}", unknown.module(), unknown.name())),
        // The engine has no type for this case of a component; its words put the name between backticks.
        None => error.to_string().split('`').nth(1).map(str::to_owned),
    };
    match import {
        Some(import) => {
            let why = error.chain().skip(1).map(ToString::to_string).last();
            let why = why
                .map(|why| format!(" ({})", why.replace('\n', " ")))
                .unwrap_or_default();
            StartError {
                reason: "RunContainerError".to_owned(),
                message: format!("{name} imports `{import}`, which Catamaran does not provide{why}; {offered}"),
                exit_code: NOT_EXECUTABLE,
            }
        }
        None => start_error(&format!("cannot link {name}"), error.as_ref(), NOT_EXECUTABLE),
    }
}

/// The socket of a service: all addresses of the pod, IPv6 too where there is any.
fn listen(port: u16) -> Result<TcpListener, StartError> {
    let listener = match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)) {
        Err(error) if error.kind() != std::io::ErrorKind::AddrInUse => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)),
        bound => bound,
    };
    let listener = listener.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => StartError {
            reason: "RunContainerError".to_owned(),
            message: format!("port {port} is already in use in this pod; give the containers different ports"),
            exit_code: NOT_STARTED,
        },
        _ => start_error(&format!("cannot listen on port {port}"), &error, NOT_STARTED),
    })?;
    rustix::net::listen(&listener, BACKLOG).map_err(|errno| not_started("cannot listen")(errno.into()))?;
    Ok(listener)
}

/// The last step before threads.
pub(crate) fn confine(seccomp: bool) -> Result<(), StartError> {
    if seccomp {
        filter::container()
            .install()
            .map_err(not_started("cannot install the system call filter"))?;
    }
    Ok(())
}

/// A container ready to run.
struct Linked {
    program: Program,
    world: World,
    listener: Option<TcpListener>,
    threads: usize,
}

impl Linked {
    fn run(self, mut report: Report) -> i32 {
        match (self.program, self.listener) {
            (Program::Service(service), Some(listener)) => {
                http::serve(&service, &self.world, listener, self.threads, &mut report)
            }
            (program, _) => command::run(&program, &self.world, &mut report),
        }
    }
}
