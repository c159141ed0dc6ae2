//! The container's first process, from `clone3` to `execve`, and its parent's side of the conversation.
//!
//! ```text
//!   parent (pod shim or `cata oci`)                child (the container's init)
//!     cgroup, socket pair, clone3  ───────────────▶  ids, session, cgroup, namespaces
//!     write uid/gid maps           ◀── map ids ───    (user namespace only)
//!                                  ─── go ────────▶  root, mounts, devices
//!     keep the terminal's master   ◀── terminal ──
//!     createRuntime hooks          ◀── hooks ─────    (only if there are any)
//!                                  ─── go ────────▶  createContainer hooks, pivot_root, privileges
//!     `create` returns             ◀── created ───    waits at the gate for `start`
//!                                  ◀── executing ─   execve closes the socket:
//!     started                      ◀── end ───────
//!     or the error, in one line    ◀── error ─────
//! ```
//!
//! The child shares nothing with its parent but the socket; whatever fails is reported through it by name. The parent
//! then kills and reaps the child and removes the cgroup, so a failed start leaves nothing.

use crate::console;
use crate::error::{Error, Report, Result, Step};
use crate::hooks;
use crate::paths::Root;
use crate::plan::{IdMaps, Namespaces, Plan};
use crate::process::{self, Streams};
use crate::rootfs;
use crate::sys::{self, Cloned};
use catamaran_shim::cgroup::Cgroup;
use catamaran_shim::runtime::Stdio;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType};
use std::io;
use std::path::Path;

const MAP_IDS: u8 = b'm';
const HOOKS: u8 = b'h';
const TERMINAL: u8 = b't';
const CREATED: u8 = b'c';
const EXECUTING: u8 = b'x';
const ERROR: u8 = b'e';
const GO: u8 = b'g';

/// A container whose first process runs its program, or waits at the gate.
#[derive(Debug)]
pub struct Running {
    pub pid: i32,
    pub pidfd: OwnedFd,
    pub console: Option<OwnedFd>,
}

/// The child's end of the conversation.
pub(crate) struct Link {
    socket: Socket,
    /// Read end of the fifo at which `create` waits.
    gate: Option<OwnedFd>,
    /// The parent has something to do before the program runs.
    confirm: bool,
}

enum Socket {
    Owned(OwnedFd),
    Borrowed(BorrowedFd<'static>),
}

impl Link {
    pub(crate) fn new(socket: OwnedFd, gate: Option<OwnedFd>, confirm: bool) -> Link {
        Link {
            socket: Socket::Owned(socket),
            gate,
            confirm,
        }
    }

    /// A link whose descriptor lives until exec.
    pub(crate) fn borrowed(socket: BorrowedFd<'static>, confirm: bool) -> Link {
        Link {
            socket: Socket::Borrowed(socket),
            gate: None,
            confirm,
        }
    }

    pub(crate) fn confirms(&self) -> bool {
        self.confirm
    }

    pub(crate) fn into_parts(self) -> (OwnedFd, Option<OwnedFd>) {
        match self.socket {
            Socket::Owned(socket) => (socket, self.gate),
            Socket::Borrowed(socket) => (socket.try_clone_to_owned().expect("a descriptor is free"), self.gate),
        }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Socket::Owned(socket) => socket.as_fd(),
            Socket::Borrowed(socket) => *socket,
        }
    }

    fn send(&self, message: &[u8]) -> io::Result<()> {
        rustix::net::send(self.fd(), message, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Asks the parent to do something and waits until it did.
    fn ask(&self, what: u8) -> io::Result<()> {
        self.send(&[what])?;
        match sys::receive(self.fd())?.0.first() {
            Some(&GO) => Ok(()),
            _ => Err(io::Error::other("the parent gave up")),
        }
    }

    pub(crate) fn terminal(&self, master: &OwnedFd) -> io::Result<()> {
        sys::send_fd(self.fd(), &[TERMINAL], master.as_fd())
    }

    /// Nobody may be listening any more after this: `create` returns.
    pub(crate) fn created(&self) -> io::Result<()> {
        if self.confirm {
            self.ask(CREATED)
        } else {
            self.send(&[CREATED])
        }
    }

    pub(crate) fn executing(&self, after_gate: bool) -> io::Result<()> {
        match (after_gate, self.confirm) {
            (true, _) => Ok(()),
            (false, true) => self.ask(EXECUTING),
            (false, false) => self.send(&[EXECUTING]),
        }
    }

    pub(crate) fn fail(&self, error: &Error) {
        let report = serde_json::to_vec(&error.report()).expect("text and a number");
        if self.send(&[&[ERROR], report.as_slice()].concat()).is_err() {
            // Nobody listens any more (after `create` returned): the container's stderr is the last resort.
            let _ = rustix::io::write(rustix::stdio::stderr(), format!("{}\n", error.line()).as_bytes());
        }
    }
}

pub(crate) fn socket_pair() -> Result<(OwnedFd, OwnedFd)> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .step(|| "make a socket pair".into())
}

/// Called with the container's process id before its program runs.
pub type BeforeExec<'a> = &'a mut dyn FnMut(i32) -> Result<()>;

/// Starts the container of `plan`. With a gate (the read end of a fifo) its program waits there.
/// `before_exec` is called with the process id when everything is set up and before the program runs; its failure ends
/// the container.
pub fn start(
    plan: &Plan,
    stdio: &Stdio,
    gate: Option<OwnedFd>,
    before_exec: Option<BeforeExec<'_>>,
) -> Result<Running> {
    refuse_threads()?;
    let cgroup = Cgroup::create(&plan.cgroup, &plan.resources)
        .map_err(io::Error::other)
        .step(|| "create the cgroup".into());
    let started = cgroup.and_then(|cgroup| start_in(&cgroup, plan, stdio, gate, before_exec));
    if started.is_err() {
        remove_cgroup(&plan.cgroup);
    }
    started
}

/// Kills what is left in the cgroup and removes it.
pub(crate) fn remove_cgroup(path: &str) {
    let Ok(cgroup) = Cgroup::open(path) else { return };
    if let Err(error) = cgroup.kill_all().and_then(|()| cgroup.remove()) {
        tracing::warn!(cgroup = path, %error, "cgroup remains");
    }
}

/// Cloning a process with threads leaves their locks locked in the child for ever.
pub(crate) fn refuse_threads() -> Result<()> {
    if cfg!(debug_assertions) && std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() > 1) {
        return Err(Error::Refused(
            "the container runner needs a single-threaded process".into(),
        ));
    }
    Ok(())
}

fn start_in(
    cgroup: &Cgroup,
    plan: &Plan,
    stdio: &Stdio,
    gate: Option<OwnedFd>,
    mut before_exec: Option<BeforeExec<'_>>,
) -> Result<Running> {
    let streams = Streams::of(stdio).step(|| "prepare stdio".into())?;
    let doors = Doors::open(cgroup)?;
    let (parent_end, child_end) = socket_pair()?;
    let cloned = in_pid_namespace(&plan.namespaces, || {
        // SAFETY: single-threaded; the child goes to `run`, which never returns.
        unsafe { sys::clone3(plan.namespaces.new, doors.unified.as_ref().map(AsFd::as_fd)) }
            .step(|| "clone a process into new namespaces".into())
    })?;
    match cloned {
        Cloned::Child => {
            drop(parent_end);
            run(plan, streams, &doors, Link::new(child_end, gate, before_exec.is_some()))
        }
        Cloned::Parent { pid, pidfd } => {
            drop((child_end, gate));
            converse(&parent_end, pid, pidfd, before_exec.is_some(), |request| {
                match (request, &mut before_exec) {
                    (CREATED | EXECUTING, Some(before_exec)) => before_exec(pid),
                    _ => answer(plan, pid, request),
                }
            })
        }
    }
}

fn answer(plan: &Plan, pid: i32, request: u8) -> Result<()> {
    match (request, &plan.id_maps) {
        (MAP_IDS, Some(maps)) => write_id_maps(pid, maps).step(|| "map ids".into()),
        (HOOKS, _) => run_runtime_hooks(plan, pid),
        _ => Err(Error::Refused("unexpected request of the container's process".into())),
    }
}

fn write_id_maps(pid: i32, maps: &IdMaps) -> io::Result<()> {
    std::fs::write(format!("/proc/{pid}/uid_map"), &maps.uid)?;
    std::fs::write(format!("/proc/{pid}/gid_map"), &maps.gid)
}

#[allow(deprecated, reason = "prestart hooks are deprecated, and still in use")]
fn run_runtime_hooks(plan: &Plan, pid: i32) -> Result<()> {
    let state = hooks::state_json(plan, "creating", pid);
    hooks::run("prestart", plan.hooks.prestart().as_ref(), &state)?;
    hooks::run("createRuntime", plan.hooks.create_runtime().as_ref(), &state)
}

/// Follows the child until it runs its program or waits at the gate; otherwise ends it.
pub(crate) fn converse(
    socket: &OwnedFd,
    pid: i32,
    pidfd: OwnedFd,
    confirm: bool,
    mut answer: impl FnMut(u8) -> Result<()>,
) -> Result<Running> {
    let mut console = None;
    let outcome = follow(socket, &mut console, confirm, &mut answer);
    match outcome {
        Ok(()) => Ok(Running { pid, pidfd, console }),
        Err(error) => {
            let _ = sys::send_signal(pidfd.as_fd(), libc::SIGKILL);
            let status = sys::wait(pid);
            Err(match (error, status) {
                (Error::Refused(text), Ok(status)) if text == VANISHED => {
                    Error::Refused(format!("{VANISHED} (exit code {})", sys::exit_code(status)))
                }
                (other, _) => other,
            })
        }
    }
}

const VANISHED: &str = "the container's process ended while it was set up";

fn follow(
    socket: &OwnedFd,
    console: &mut Option<OwnedFd>,
    confirm: bool,
    answer: &mut impl FnMut(u8) -> Result<()>,
) -> Result<()> {
    let mut executing = false;
    let go = || {
        rustix::net::send(socket, &[GO], SendFlags::NOSIGNAL)
            .map(drop)
            .step(|| "answer the container's process".into())
    };
    loop {
        let (message, fd) = sys::receive(socket.as_fd()).step(|| "hear from the container's process".into())?;
        match message.split_first() {
            // exec closed the other end.
            None if executing => return Ok(()),
            None => return Err(Error::Refused(VANISHED.into())),
            Some((&request @ (CREATED | EXECUTING), _)) => {
                if confirm {
                    answer(request)?;
                    go()?;
                }
                if request == CREATED {
                    return Ok(());
                }
                executing = true;
            }
            Some((&TERMINAL, _)) => *console = fd,
            Some((&ERROR, report)) => return Err(reported(report)),
            Some((&request, _)) => {
                answer(request)?;
                go()?;
            }
        }
    }
}

fn reported(report: &[u8]) -> Error {
    let garbled = || Report {
        message: "the container's process failed".into(),
        exit_code: 128,
    };
    Error::Child(serde_json::from_slice(report).unwrap_or_else(|_| garbled()))
}

/// Joins the pid namespace of the spec for the time of the clone: it only takes effect for children.
fn in_pid_namespace(namespaces: &Namespaces, clone: impl FnOnce() -> Result<Cloned>) -> Result<Cloned> {
    match namespaces.join.iter().find(|(flag, _)| *flag == libc::CLONE_NEWPID) {
        Some((_, path)) => {
            let target = open_namespace(path)?;
            with_children_in(&target, libc::CLONE_NEWPID, clone)
        }
        None => clone(),
    }
}

/// Runs `clone` with the pid namespace for children set to `target` (a namespace or a pidfd), and sets it back.
pub(crate) fn with_children_in(target: &OwnedFd, flag: i32, clone: impl FnOnce() -> Result<Cloned>) -> Result<Cloned> {
    let own = open_namespace(Path::new("/proc/self/ns/pid_for_children"))?;
    sys::setns(target, flag).step(|| "join the pid namespace".into())?;
    let cloned = clone();
    if matches!(cloned, Ok(Cloned::Child)) {
        return cloned;
    }
    sys::setns(&own, libc::CLONE_NEWPID).step(|| "return to the own pid namespace".into())?;
    cloned
}

fn open_namespace(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .step(|| format!("open namespace {}", path.display()))
}

/// Ways into a cgroup: the v2 directory, entered by the clone itself, and the `tasks` file of each v1 directory, entered
/// by the child. Writing a pid from outside would take a lock that stops every fork on the machine.
pub(crate) struct Doors {
    pub unified: Option<OwnedFd>,
    tasks: Vec<OwnedFd>,
}

impl Doors {
    pub(crate) fn open(cgroup: &Cgroup) -> Result<Doors> {
        let open = |path: &Path, flags: OFlags| {
            rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())
                .step(|| format!("open cgroup {}", path.display()))
        };
        let unified = cgroup.unified_dir();
        let v1 = cgroup.dirs().filter(|dir| Some(*dir) != unified);
        Ok(Doors {
            tasks: v1
                .map(|dir| open(&dir.join("tasks"), OFlags::WRONLY))
                .collect::<Result<_>>()?,
            unified: unified
                .map(|dir| open(dir, OFlags::PATH | OFlags::DIRECTORY))
                .transpose()?,
        })
    }

    pub(crate) fn enter(&self) -> Result<()> {
        for file in &self.tasks {
            rustix::io::write(file, b"0").step(|| "join the cgroup".into())?;
        }
        Ok(())
    }
}

/// The child. Ends in the container's program or in `_exit`.
fn run(plan: &Plan, streams: Streams, doors: &Doors, link: Link) -> ! {
    match set_up(plan, streams, doors, &link) {
        Ok(streams) => process::finish(&plan.process, &streams, link, || run_start_hooks(plan)),
        Err(error) => {
            link.fail(&error);
            sys::exit(error.exit_code());
        }
    }
}

fn set_up(plan: &Plan, streams: Streams, doors: &Doors, link: &Link) -> Result<Streams> {
    // Modes of what is created are meant as they are written.
    rustix::process::umask(Mode::empty());
    doors.enter()?;
    if plan.id_maps.is_some() {
        link.ask(MAP_IDS).step(|| "map ids".into())?;
        become_root_inside().step(|| "become root of the user namespace".into())?;
    }
    join_namespaces(&plan.namespaces)?;
    rustix::process::setsid().step(|| "start a session".into())?;
    if plan.namespaces.new_cgroup {
        sys::unshare(libc::CLONE_NEWCGROUP).step(|| "make a cgroup namespace".into())?;
    }
    if plan.new_keyring {
        sys::new_session_keyring().step(|| "make a session keyring".into())?;
    }
    process::prepare(&plan.process)?;
    name_host(plan)?;
    rootfs::write_sysctls(plan)?;
    let root = rootfs::build(plan)?;
    let streams = if plan.process.terminal {
        open_terminal(plan, &root, link)?
    } else {
        streams
    };
    run_creation_hooks(plan, link)?;
    rootfs::protect(&root, plan)?;
    rootfs::enter(&root, plan)?;
    if let Some(domain) = plan.personality {
        sys::personality(domain).step(|| "set linux.personality".into())?;
    }
    Ok(streams)
}

fn become_root_inside() -> io::Result<()> {
    use rustix::process::{Gid, Uid};
    rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)?;
    Ok(rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)?)
}

fn join_namespaces(namespaces: &Namespaces) -> Result<()> {
    for (flag, path) in namespaces.join.iter().filter(|(flag, _)| *flag != libc::CLONE_NEWPID) {
        sys::setns(open_namespace(path)?, *flag).step(|| format!("join namespace {}", path.display()))?;
        if *flag == libc::CLONE_NEWUSER {
            become_root_inside().step(|| "become root of the user namespace".into())?;
        }
    }
    Ok(())
}

fn name_host(plan: &Plan) -> Result<()> {
    if let Some(name) = &plan.hostname {
        rustix::system::sethostname(name.as_bytes()).step(|| "set hostname".into())?;
    }
    if let Some(name) = &plan.domainname {
        rustix::system::setdomainname(name.as_bytes()).step(|| "set domainname".into())?;
    }
    Ok(())
}

fn open_terminal(plan: &Plan, root: &Root, link: &Link) -> Result<Streams> {
    let console = console::open(root, plan.process.console_size, plan.process.identity.uid)?;
    if rootfs::owns_dev(plan) {
        console::mount_as_console(root, &console.slave)?;
    }
    link.terminal(&console.master)
        .step(|| "hand over the terminal".into())?;
    Streams::of_terminal(&console.slave).step(|| "prepare stdio".into())
}

#[allow(deprecated, reason = "prestart hooks are deprecated, and still in use")]
fn run_creation_hooks(plan: &Plan, link: &Link) -> Result<()> {
    let any = |list: &Option<Vec<oci_spec::runtime::Hook>>| list.as_ref().is_some_and(|list| !list.is_empty());
    if any(plan.hooks.prestart()) || any(plan.hooks.create_runtime()) {
        link.ask(HOOKS).step(|| "wait for createRuntime hooks".into())?;
    }
    let state = || hooks::state_json(plan, "creating", own_pid());
    match plan.hooks.create_container() {
        Some(list) if !list.is_empty() => hooks::run("createContainer", Some(list), &state()),
        _ => Ok(()),
    }
}

fn run_start_hooks(plan: &Plan) -> Result<()> {
    match plan.hooks.start_container() {
        Some(list) if !list.is_empty() => hooks::run(
            "startContainer",
            Some(list),
            &hooks::state_json(plan, "created", own_pid()),
        ),
        _ => Ok(()),
    }
}

fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}
