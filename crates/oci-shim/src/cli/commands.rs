//! The verbs that act on containers.

use super::args::{Flag, Parsed, parse, switch, value};
use super::state::{Dir, State, Status};
use super::{Context, Failure, Outcome, foreground};
use crate::error::{Error, Result, Step};
use crate::init::{self, Running};
use crate::plan::{self, Plan};
use crate::{exec as joining, hooks, sys};
use catamaran_shim::cgroup::Cgroup;
use catamaran_shim::runtime::Stdio;
use oci_spec::runtime::{Process, Spec};
use rustix::fd::AsFd;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::io;
use std::path::{Path, PathBuf};

const CREATE: &[Flag] = &[
    value("bundle", Some("b")),
    value("console-socket", None),
    switch("detach", Some("d")),
    switch("keep", None),
    value("pid-file", None),
    switch("no-subreaper", None),
    switch("no-pivot", None),
    switch("no-new-keyring", None),
    value("preserve-fds", None),
];

/// What `run` and `create` have in common.
struct Creation {
    plan: Plan,
    dir: Dir,
    options: Parsed,
}

impl Creation {
    fn prepare(context: &Context, args: &[String], detached: bool) -> Result<Creation, Failure> {
        let options = parse(args, CREATE)?;
        let id = only_word(&options, "a container id")?;
        let bundle = absolute(options.get("bundle").unwrap_or("."))?;
        let mut plan = plan::load(id, &bundle)?;
        plan.no_pivot = options.has("no-pivot");
        plan.new_keyring = !options.has("no-new-keyring");
        plan.process.preserve_fds = preserve_fds(&options)?;
        check_console(plan.process.terminal, detached || options.has("detach"), &options)?;
        let dir = Dir::create(&context.root, id)?;
        let prepared = refuse_shared_cgroup(&plan.cgroup).and_then(|()| Ok(dir.keep_spec(&bundle)?));
        prepared.inspect_err(|_| drop(dir.remove()))?;
        Ok(Creation { plan, dir, options })
    }

    /// Starts the container's process, remembers it, and tells who asked.
    fn start(&self, gate: bool) -> Result<(Running, State)> {
        let gate = if gate { Some(self.dir.make_gate()?) } else { None };
        // Without a gate the program runs at once, and whoever it tells must find the state.
        let mut remember = |pid| self.dir.save(&self.plan, pid).map(drop);
        let running = init::start(&self.plan, &own_stdio()?, gate, Some(&mut remember))?;
        let told = self.dir.load().and_then(|state| {
            write_pid_file(&self.options, running.pid)?;
            send_console(&self.options, &running)?;
            Ok(state)
        });
        match told {
            Ok(state) => Ok((running, state)),
            Err(error) => {
                let _ = sys::send_signal(running.pidfd.as_fd(), libc::SIGKILL);
                let _ = sys::wait(running.pid);
                init::remove_cgroup(&self.plan.cgroup);
                Err(error)
            }
        }
    }
}

/// Two containers of one cgroup would be killed and removed together.
fn refuse_shared_cgroup(path: &str) -> Result<(), Failure> {
    match open_cgroup(path)?.pids().first() {
        Some(pid) => Err(format!("cgroup {path} is in use: process {pid} is in it").into()),
        None => Ok(()),
    }
}

pub(super) fn run(context: &Context, args: &[String]) -> Outcome {
    crate::shield_binary()?;
    let creation = Creation::prepare(context, args, false)?;
    let signals = if creation.options.has("detach") {
        None
    } else {
        Some(foreground::hold_signals()?)
    };
    let (running, state) = creation.start(false).inspect_err(|_| drop(creation.dir.remove()))?;
    run_poststart(&creation.plan, running.pid);
    let Some(signals) = signals else { return Ok(0) };
    let code = foreground::wait(&running, &signals)?;
    if !creation.options.has("keep") {
        destroy(&creation.dir, &state)?;
    }
    Ok(code as u8)
}

pub(super) fn create(context: &Context, args: &[String]) -> Outcome {
    crate::shield_binary()?;
    let creation = Creation::prepare(context, args, true)?;
    creation.start(true).inspect_err(|_| drop(creation.dir.remove()))?;
    Ok(0)
}

pub(super) fn start(context: &Context, args: &[String]) -> Outcome {
    let options = parse(args, &[])?;
    let (dir, state) = find(context, only_word(&options, "a container id")?)?;
    match dir.status(&state) {
        Status::Created => dir.open_gate()?,
        Status::Running => return Err("cannot start a container that runs already".to_owned().into()),
        Status::Stopped => return Err("cannot start a container that has stopped".to_owned().into()),
    }
    let plan = plan::plan(&state.id, &state.bundle, &dir.spec()?)?;
    run_poststart(&plan, state.pid);
    Ok(0)
}

fn run_poststart(plan: &Plan, pid: i32) {
    if plan.hooks.poststart().is_some() {
        hooks::run_tolerant(
            "poststart",
            plan.hooks.poststart().as_ref(),
            &hooks::state_json(plan, "running", pid),
        );
    }
}

pub(super) fn state(context: &Context, args: &[String]) -> Outcome {
    let options = parse(args, &[])?;
    let (dir, state) = find(context, only_word(&options, "a container id")?)?;
    println!("{:#}", dir.show(&state));
    Ok(0)
}

pub(super) fn kill(context: &Context, args: &[String]) -> Outcome {
    let options = parse(args, &[switch("all", Some("a"))])?;
    let (id, signal) = match options.words.as_slice() {
        [id] => (id, "TERM"),
        [id, signal] => (id, signal.as_str()),
        _ => return Err("kill takes a container id and a signal".to_owned().into()),
    };
    let signal = signal_number(signal).ok_or_else(|| format!("unknown signal {signal:?}"))?;
    let (dir, state) = find(context, id)?;
    if options.has("all") {
        open_cgroup(&state.cgroup)?.signal_all(signal);
        return Ok(0);
    }
    if dir.status(&state) == Status::Stopped {
        return Err("container not running".to_owned().into());
    }
    send(&state, signal)?;
    Ok(0)
}

fn send(state: &State, signal: i32) -> Result<()> {
    let step = || format!("signal process {}", state.pid);
    let raw = Pid::from_raw(state.pid)
        .ok_or(io::ErrorKind::InvalidInput)
        .map_err(io::Error::from)
        .step(step)?;
    let pidfd = pidfd_open(raw, PidfdFlags::empty()).step(step)?;
    // Asked while the descriptor is held: the number cannot change hands any more.
    if !state.is_alive() {
        return Err(io::Error::from_raw_os_error(libc::ESRCH)).step(step);
    }
    sys::send_signal(pidfd.as_fd(), signal).step(step)
}

fn open_cgroup(path: &str) -> Result<Cgroup> {
    Cgroup::open(path)
        .map_err(io::Error::other)
        .step(|| "open the cgroup".into())
}

pub(super) fn delete(context: &Context, args: &[String]) -> Outcome {
    let options = parse(args, &[switch("force", Some("f"))])?;
    let id = only_word(&options, "a container id")?;
    let dir = Dir::new(&context.root, id)?;
    let state = match dir.load() {
        Ok(state) => state,
        Err(_) if options.has("force") => {
            // Its start was cut short. What there may be of it besides is named by the spec.
            if let Ok(plan) = dir.spec().and_then(|spec| plan::plan(id, Path::new("/"), &spec)) {
                init::remove_cgroup(&plan.cgroup);
            }
            dir.remove()?;
            return Ok(0);
        }
        Err(error) => return Err(error.into()),
    };
    match dir.status(&state) {
        Status::Running if !options.has("force") => {
            return Err(format!("cannot delete container {id} that is not stopped: running").into());
        }
        Status::Stopped => {}
        Status::Created | Status::Running => drop(send(&state, libc::SIGKILL)),
    }
    destroy(&dir, &state)?;
    Ok(0)
}

/// Everything of a container whose process has ended, or has just been killed.
fn destroy(dir: &Dir, state: &State) -> Result<()> {
    init::remove_cgroup(&state.cgroup);
    let plan = dir.spec().and_then(|spec| plan::plan(&state.id, &state.bundle, &spec));
    dir.remove()?;
    if let Ok(plan) = plan.as_ref()
        && plan.hooks.poststop().is_some()
    {
        hooks::run_tolerant(
            "poststop",
            plan.hooks.poststop().as_ref(),
            &hooks::state_json(plan, "stopped", 0),
        );
    }
    Ok(())
}

const EXEC: &[Flag] = &[
    value("console-socket", None),
    value("cwd", None),
    value("env", Some("e")),
    switch("tty", Some("t")),
    value("user", Some("u")),
    value("additional-gids", Some("g")),
    value("process", Some("p")),
    switch("detach", Some("d")),
    value("pid-file", None),
    value("process-label", None),
    value("apparmor", None),
    switch("no-new-privs", None),
    value("cap", Some("c")),
    value("preserve-fds", None),
    switch("ignore-paused", None),
];

pub(super) fn exec(context: &Context, args: &[String]) -> Outcome {
    crate::shield_binary()?;
    let options = parse(args, EXEC)?;
    let (id, command) = options
        .words
        .split_first()
        .ok_or_else(|| "exec takes a container id and a command".to_owned())?;
    let (dir, state) = find(context, id)?;
    if dir.status(&state) == Status::Stopped {
        return Err(format!("cannot exec in container {id}: it is stopped").into());
    }
    let spec = dir.spec()?;
    let process = process_of(&options, &spec, command)?;
    let mut plan = joining::plan(id, &spec, state.pid, &process)?;
    plan.process.preserve_fds = preserve_fds(&options)?;
    check_console(plan.process.terminal, options.has("detach"), &options)?;
    let signals = if options.has("detach") {
        None
    } else {
        Some(foreground::hold_signals()?)
    };
    let running = joining::start(&plan, &own_stdio()?)?;
    write_pid_file(&options, running.pid)?;
    send_console(&options, &running)?;
    match signals {
        Some(signals) => Ok(foreground::wait(&running, &signals)? as u8),
        None => Ok(0),
    }
}

/// The process to execute: a file, or the container's own with what the options change.
fn process_of(options: &Parsed, spec: &Spec, command: &[String]) -> Result<Process, Failure> {
    if let Some(path) = options.get("process") {
        let path = PathBuf::from(path);
        let bytes = std::fs::read(&path).map_err(|source| Error::Read {
            path: path.clone(),
            source,
        })?;
        return Ok(serde_json::from_slice(&bytes).map_err(|source| Error::Parse { path, source })?);
    }
    if command.is_empty() {
        return Err("exec takes a command, or --process".to_owned().into());
    }
    let mut process = spec
        .process()
        .clone()
        .ok_or_else(|| "the container has no process".to_owned())?;
    process.set_args(Some(command.to_vec()));
    process.set_terminal(Some(options.has("tty")));
    if let Some(cwd) = options.get("cwd") {
        process.set_cwd(cwd.into());
    }
    let mut env = process.env().clone().unwrap_or_default();
    env.extend(options.all("env").iter().cloned());
    process.set_env(Some(env));
    if options.has("no-new-privs") {
        process.set_no_new_privileges(Some(true));
    }
    if let Some(label) = options.get("process-label") {
        process.set_selinux_label(Some(label.to_owned()));
    }
    if let Some(profile) = options.get("apparmor") {
        process.set_apparmor_profile(Some(profile.to_owned()));
    }
    set_user(&mut process, options)?;
    add_capabilities(&mut process, options.all("cap"))?;
    Ok(process)
}

fn set_user(process: &mut Process, options: &Parsed) -> Result<(), String> {
    let number = |text: &str| text.parse::<u32>().map_err(|_| format!("{text:?} is not a numeric id"));
    let mut user = process.user().clone();
    if let Some(text) = options.get("user") {
        let (uid, gid) = text.split_once(':').map_or((text, None), |(uid, gid)| (uid, Some(gid)));
        user.set_uid(number(uid)?);
        if let Some(gid) = gid {
            user.set_gid(number(gid)?);
        }
    }
    let groups = options.all("additional-gids").iter().flat_map(|list| list.split(','));
    let groups = groups.map(number).collect::<Result<Vec<_>, _>>()?;
    if !groups.is_empty() {
        user.set_additional_gids(Some(groups));
    }
    process.set_user(user);
    Ok(())
}

fn add_capabilities(process: &mut Process, names: &[String]) -> Result<(), String> {
    let mut sets = process.capabilities().clone().unwrap_or_default();
    for name in names {
        let parse = |name: &str| serde_json::from_value(serde_json::json!(name));
        let capability = parse(name).map_err(|_| format!("unknown capability {name:?}"))?;
        let with = |set: &Option<oci_spec::runtime::Capabilities>| {
            let mut set = set.clone().unwrap_or_default();
            set.insert(capability);
            Some(set)
        };
        sets.set_bounding(with(sets.bounding()));
        sets.set_effective(with(sets.effective()));
        sets.set_permitted(with(sets.permitted()));
        sets.set_inheritable(with(sets.inheritable()));
        sets.set_ambient(with(sets.ambient()));
    }
    if !names.is_empty() {
        process.set_capabilities(Some(sets));
    }
    Ok(())
}

fn find(context: &Context, id: &str) -> Result<(Dir, State)> {
    let dir = Dir::new(&context.root, id)?;
    let state = dir.load()?;
    Ok((dir, state))
}

fn only_word<'a>(options: &'a Parsed, what: &str) -> Result<&'a str, String> {
    match options.words.as_slice() {
        [word] => Ok(word),
        [] => Err(format!("{what} is missing")),
        [_, extra, ..] => Err(format!("unexpected argument {extra:?} after {what}")),
    }
}

fn absolute(path: &str) -> Result<PathBuf> {
    Path::new(path).canonicalize().step(|| format!("find bundle {path}"))
}

fn preserve_fds(options: &Parsed) -> Result<u32, String> {
    let text = options.get("preserve-fds").unwrap_or("0");
    let count: u32 = text
        .parse()
        .map_err(|_| format!("--preserve-fds {text:?} is not a number"))?;
    // Socket activation: the descriptors that systemd passed are for the container.
    let listen = std::env::var("LISTEN_FDS")
        .ok()
        .and_then(|text| text.parse::<u32>().ok())
        .unwrap_or_default();
    let total = count.saturating_add(listen).min(1024);
    match (3..3 + total as i32).find(|number| !sys::is_inherited(*number)) {
        Some(number) => Err(format!("--preserve-fds {count}: descriptor {number} is not open")),
        None => Ok(total),
    }
}

fn check_console(terminal: bool, detached: bool, options: &Parsed) -> Result<(), String> {
    match (options.get("console-socket"), terminal, detached) {
        (None, true, true) => Err("a detached container with a terminal needs --console-socket".into()),
        (Some(_), false, _) => Err("--console-socket is of use only with process.terminal".into()),
        (Some(_), true, false) => Err("--console-socket needs --detach".into()),
        _ => Ok(()),
    }
}

fn own_stdio() -> Result<Stdio> {
    let copy = |fd: rustix::fd::BorrowedFd<'_>| fd.try_clone_to_owned().ok();
    let (stdin, stdout, stderr) = (rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr());
    Ok(Stdio {
        stdin: copy(stdin),
        stdout: copy(stdout),
        stderr: copy(stderr),
    })
}

fn write_pid_file(options: &Parsed, pid: i32) -> Result<()> {
    let Some(path) = options.get("pid-file").map(Path::new) else {
        return Ok(());
    };
    // By rename: whoever waits for the file finds the whole number in it.
    let temporary = path.with_extension("tmp");
    let step = || format!("write {}", path.display());
    std::fs::write(&temporary, pid.to_string()).step(step)?;
    std::fs::rename(&temporary, path).step(step)
}

fn send_console(options: &Parsed, running: &Running) -> Result<()> {
    use std::os::unix::net::UnixStream;
    let (Some(path), Some(master)) = (options.get("console-socket"), &running.console) else {
        return Ok(());
    };
    let step = || format!("send the terminal to {path}");
    let socket = UnixStream::connect(path).step(step)?;
    sys::send_fd(socket.as_fd(), b"/dev/ptmx", master.as_fd()).step(step)
}

const SIGNALS: [(&str, i32); 31] = [
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ILL", libc::SIGILL),
    ("TRAP", libc::SIGTRAP),
    ("ABRT", libc::SIGABRT),
    ("BUS", libc::SIGBUS),
    ("FPE", libc::SIGFPE),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("SEGV", libc::SIGSEGV),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("STKFLT", libc::SIGSTKFLT),
    ("CHLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("VTALRM", libc::SIGVTALRM),
    ("PROF", libc::SIGPROF),
    ("WINCH", libc::SIGWINCH),
    ("IO", libc::SIGIO),
    ("PWR", libc::SIGPWR),
    ("SYS", libc::SIGSYS),
];

/// `9`, `KILL`, `SIGKILL`, `sigkill`, `RTMIN+1`.
fn signal_number(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (0..=64).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(offset) = name.strip_prefix("RTMIN") {
        let offset: i32 = if offset.is_empty() {
            0
        } else {
            offset.strip_prefix('+')?.parse().ok()?
        };
        return (0..=30).contains(&offset).then_some(34 + offset);
    }
    SIGNALS
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, number)| *number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_by_number_and_name() {
        for text in ["9", "KILL", "SIGKILL", "sigkill"] {
            assert_eq!(signal_number(text), Some(9), "{text}");
        }
        assert_eq!(signal_number("RTMIN+3"), Some(37));
        for text in ["", "65", "-1", "NOSUCH", "RTMIN+99"] {
            assert_eq!(signal_number(text), None, "{text}");
        }
    }
}
