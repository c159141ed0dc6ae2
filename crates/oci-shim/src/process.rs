//! From a root process inside the container to the container's program. Shared by `run` and `exec`.
//!
//! The order is the point:
//!
//! ```text
//!  stdio in place, all other descriptors closed     before any path is looked up: a leaked directory would be a way out
//!  rlimits, I/O priority, scheduler, labels         may need capabilities
//!  bounding set → ids                               permitted capabilities survive, for the filter
//!  cwd, search for the program                      as the user; the filter need not allow any of it
//!  seccomp → capability sets                        with CAP_SYS_ADMIN, which goes away one step later;
//!  or capability sets → no_new_privs → seccomp      the other way round, where that is asked for
//!  exec
//! ```

use crate::error::{Error, Result, Step};
use crate::init::Link;
use crate::plan::ProcessPlan;
use crate::rootfs::open_in_own_proc;
use crate::sys;
use catamaran_shim::privilege;
use rustix::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags};
use std::ffi::{CString, OsStr};
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Before the first change of identity: what only root may write about itself.
pub(crate) fn prepare(plan: &ProcessPlan) -> Result<()> {
    if let Some(value) = plan.oom_score_adj {
        match std::fs::write("/proc/self/oom_score_adj", value.to_string()) {
            // Lowering needs CAP_SYS_RESOURCE. Kubernetes asks for it often; a container is better than none.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                tracing::warn!(value, "oom_score_adj is refused by the kernel, going on without");
            }
            other => other.step(|| "set process.oomScoreAdj".into())?,
        }
    }
    check_label(
        "process.apparmorProfile",
        plan.apparmor.as_deref(),
        "/sys/kernel/security/apparmor",
        "AppArmor",
    )?;
    check_label(
        "process.selinuxLabel",
        plan.selinux.as_deref(),
        "/sys/fs/selinux/enforce",
        "SELinux",
    )?;
    // From here on nobody inside the container may look into this process: its memory is the runner's.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .step(|| "protect the runner's memory".into())
}

/// A label cannot be honoured where its security module is absent, and must not be dropped silently.
fn check_label(field: &str, label: Option<&str>, marker: &str, module: &str) -> Result<()> {
    match label {
        Some(label) if label != "unconfined" && !Path::new(marker).exists() => Err(Error::spec(
            field,
            format!("{label:?} is asked for, but {module} is not enabled in this kernel"),
        )),
        _ => Ok(()),
    }
}

/// What will be descriptors 0, 1 and 2.
pub(crate) struct Streams {
    pub fds: [OwnedFd; 3],
    pub terminal: bool,
}

impl Streams {
    pub(crate) fn of(stdio: &catamaran_shim::runtime::Stdio) -> io::Result<Streams> {
        let pick = |fd: &Option<OwnedFd>| match fd {
            Some(fd) => sys::duplicate_above(fd.as_fd(), 3),
            None => Ok(rustix::fs::open(
                "/dev/null",
                OFlags::RDWR | OFlags::CLOEXEC,
                Mode::empty(),
            )?),
        };
        Ok(Streams {
            fds: [pick(&stdio.stdin)?, pick(&stdio.stdout)?, pick(&stdio.stderr)?],
            terminal: false,
        })
    }

    pub(crate) fn of_terminal(slave: &OwnedFd) -> io::Result<Streams> {
        let one = || sys::duplicate_above(slave.as_fd(), 3);
        Ok(Streams {
            fds: [one()?, one()?, one()?],
            terminal: true,
        })
    }
}

/// Never returns to the caller's code: the program runs, or the link is told why not.
pub(crate) fn finish(plan: &ProcessPlan, streams: &Streams, link: Link, before_exec: impl FnOnce() -> Result<()>) -> ! {
    let Ok((link, gate)) = place_descriptors(plan, streams, link) else {
        sys::exit(128) // the link is among what could not be placed
    };
    let error = match become_program(plan, streams.terminal, &link, gate, before_exec) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    link.fail(&error);
    sys::exit(error.exit_code())
}

/// Puts stdio at 0–2, keeps the descriptors the program is promised, then the link and its gate, and closes all others.
fn place_descriptors(
    plan: &ProcessPlan,
    streams: &Streams,
    link: Link,
) -> io::Result<(Link, Option<BorrowedFd<'static>>)> {
    let first = 3 + i32::try_from(plan.preserve_fds).map_err(|_| io::ErrorKind::InvalidInput)?;
    // Away from the places that are about to be filled. All of these are closed below, behind the back of an owner.
    let confirm = link.confirms();
    let (socket, gate) = link.into_parts();
    let away = |fd: BorrowedFd<'_>| sys::duplicate_above(fd, first + 2).map(IntoRawFd::into_raw_fd);
    let streams = streams
        .fds
        .iter()
        .map(|fd| away(fd.as_fd()))
        .collect::<io::Result<Vec<_>>>()?;
    let (new_socket, new_gate) = (
        away(socket.as_fd())?,
        gate.as_ref().map(|gate| away(gate.as_fd())).transpose()?,
    );
    drop((socket, gate));
    let (socket, gate) = (new_socket, new_gate);
    for (number, fd) in streams.into_iter().enumerate() {
        sys::place(fd, number as i32, false)?;
    }
    for number in 3..first {
        // Promised descriptors stay open over exec, if they exist at all.
        let _ = sys::place(number, number, false);
    }
    sys::place(socket, first, true)?;
    if let Some(gate) = gate {
        sys::place(gate, first + 1, true)?;
    }
    let has_gate = gate.is_some();
    sys::close_from(u32::try_from(first).expect("positive") + if has_gate { 2 } else { 1 })?;
    // SAFETY: both were placed just now and are not closed before exec.
    let (link, gate) = unsafe { (BorrowedFd::borrow_raw(first), BorrowedFd::borrow_raw(first + 1)) };
    Ok((Link::borrowed(link, confirm), has_gate.then_some(gate)))
}

enum Never {}

fn become_program(
    plan: &ProcessPlan,
    terminal: bool,
    link: &Link,
    gate: Option<BorrowedFd<'static>>,
    before_exec: impl FnOnce() -> Result<()>,
) -> Result<Never> {
    if terminal {
        rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())
            .step(|| "make the terminal the controlling one".into())?;
    } else {
        give_streams_to(plan.identity.uid);
    }
    if let Some((class, level)) = plan.io_priority {
        sys::set_io_priority(class, level).step(|| "set process.ioPriority".into())?;
    }
    if let Some(scheduler) = &plan.scheduler {
        sys::set_scheduler(scheduler).step(|| "set process.scheduler".into())?;
    }
    privilege::set_rlimits(&plan.rlimits).map_err(|(kind, source)| Error::Step {
        step: format!("set process.rlimits {kind}"),
        source,
    })?;
    apply_labels(plan)?;
    let program = plan.argv[0].to_str().unwrap_or_default().to_owned();
    let env = environment(plan);
    let entered = enter(&plan.cwd);
    privilege::drop_bounding(plan.capabilities.bounding).step(|| "drop capabilities from the bounding set".into())?;
    privilege::set_identity(&plan.identity).step(|| "set process.user".into())?;
    rustix::process::umask(Mode::from_raw_mode(plan.umask & 0o777));
    if entered.is_err() {
        // Root may be kept out where the user is let in: NFS, FUSE.
        enter(&plan.cwd).step(|| format!("enter process.cwd {}", plan.cwd.display()))?;
    }
    check_cwd()?;
    let path = find_program(&plan.path, plan.argv[0].as_bytes(), &program)?;
    if let Some(gate) = gate {
        link.created().step(|| "report the created container".into())?;
        wait_for_start(gate).step(|| "wait for start".into())?;
    }
    before_exec()?;
    sys::reset_signals().step(|| "reset signals".into())?;
    link.executing(gate.is_some()).step(|| "report the start".into())?;
    give_up_privileges(plan)?;
    let source = sys::execve(&path, &plan.argv, &env);
    Err(Error::Exec {
        program,
        code: shell_code(&source),
        source,
    })
}

fn give_up_privileges(plan: &ProcessPlan) -> Result<()> {
    let capabilities = || privilege::apply_capabilities(&plan.capabilities).step(|| "set process.capabilities".into());
    if plan.no_new_privs {
        capabilities()?;
        privilege::set_no_new_privs().step(|| "set process.noNewPrivileges".into())?;
        install_filter(plan)
    } else {
        if plan.seccomp.is_some() {
            privilege::raise_permitted().step(|| "raise capabilities for the seccomp filter".into())?;
        }
        install_filter(plan)?;
        capabilities()
    }
}

fn install_filter(plan: &ProcessPlan) -> Result<()> {
    match &plan.seccomp {
        Some(program) => program.install().step(|| "install the seccomp filter".into()),
        None => Ok(()),
    }
}

/// Pipes and files belong to who made them; a program that opens `/dev/stdout` again must own it.
fn give_streams_to(uid: u32) {
    for stream in [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()] {
        let Ok(stat) = rustix::fs::fstat(stream) else { continue };
        let is_pipe = matches!(FileType::from_raw_mode(stat.st_mode), FileType::Fifo | FileType::Socket);
        if is_pipe && stat.st_uid != uid {
            // Refused for file systems without owners; the stream works all the same.
            let _ = rustix::fs::fchown(stream, Some(rustix::fs::Uid::from_raw(uid)), None);
        }
    }
}

fn enter(cwd: &Path) -> io::Result<()> {
    Ok(rustix::process::chdir(cwd)?)
}

/// A working directory outside the root would be a way out of the container.
fn check_cwd() -> Result<()> {
    let cwd = rustix::process::getcwd(Vec::new()).step(|| "find the working directory".into())?;
    if cwd.as_bytes().starts_with(b"/") {
        return Ok(());
    }
    Err(Error::Refused("process.cwd lies outside the container's root".into()))
}

fn apply_labels(plan: &ProcessPlan) -> Result<()> {
    if let Some(profile) = plan.apparmor.as_deref().filter(|profile| *profile != "unconfined") {
        let text = format!("exec {profile}");
        write_attribute("apparmor/exec", &text)
            .or_else(|_| write_attribute("exec", &text))
            .step(|| format!("set process.apparmorProfile {profile}"))?;
    }
    if let Some(label) = &plan.selinux {
        write_attribute("exec", label).step(|| format!("set process.selinuxLabel {label}"))?;
    }
    Ok(())
}

fn write_attribute(name: &str, value: &str) -> io::Result<()> {
    open_in_own_proc(&format!("self/attr/{name}"))?.write_all(value.as_bytes())
}

fn environment(plan: &ProcessPlan) -> Vec<CString> {
    let mut env = plan.env.clone();
    if plan.home_missing {
        env.retain(|variable| !variable.as_bytes().starts_with(b"HOME="));
        let mut home = b"HOME=".to_vec();
        home.extend(home_of(plan.identity.uid).as_os_str().as_bytes());
        env.extend(CString::new(home));
    }
    env
}

/// The user's home by the container's `/etc/passwd`, `/` if it does not say.
fn home_of(uid: u32) -> PathBuf {
    const LARGEST: u64 = 1 << 20;
    let mut text = Vec::new();
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(file) = rustix::fs::open("/etc/passwd", flags, Mode::empty()) else {
        return "/".into();
    };
    let _ = std::fs::File::from(file).take(LARGEST).read_to_end(&mut text);
    let uid = uid.to_string();
    let line = text
        .split(|byte| *byte == b'\n')
        .find(|line| line.split(|b| *b == b':').nth(2) == Some(uid.as_bytes()));
    let home = line
        .and_then(|line| line.split(|byte| *byte == b':').nth(5))
        .filter(|home| home.starts_with(b"/"));
    home.map_or_else(|| "/".into(), |home| PathBuf::from(OsStr::from_bytes(home)))
}

/// Finds the program as a shell does: a name with a slash is a path, any other is searched in `PATH`.
fn find_program(search: &str, name: &[u8], shown: &str) -> Result<CString> {
    let c_string =
        |path: PathBuf| CString::new(path.into_os_string().into_vec()).expect("no null byte: it came from C strings");
    let failure = |code, source| Error::Exec {
        program: shown.to_owned(),
        code,
        source,
    };
    if name.contains(&b'/') {
        let path = PathBuf::from(OsStr::from_bytes(name));
        return match executable(&path) {
            Ok(()) => Ok(c_string(path)),
            Err(error) => Err(failure(shell_code(&error), error)),
        };
    }
    let mut refused = None;
    for dir in search.split(':').map(|dir| if dir.is_empty() { "." } else { dir }) {
        let path = Path::new(dir).join(OsStr::from_bytes(name));
        match executable(&path) {
            Ok(()) => return Ok(c_string(path)),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => refused = Some(error),
            Err(_) => {}
        }
    }
    Err(match refused {
        Some(error) => failure(126, error),
        None => failure(
            127,
            io::Error::new(io::ErrorKind::NotFound, "executable file not found in $PATH"),
        ),
    })
}

fn executable(path: &Path) -> io::Result<()> {
    let stat = rustix::fs::stat(path)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "is a directory"));
    }
    let access = rustix::fs::Access::EXEC_OK;
    Ok(rustix::fs::accessat(
        rustix::fs::CWD,
        path,
        access,
        rustix::fs::AtFlags::EACCESS,
    )?)
}

fn shell_code(error: &io::Error) -> i32 {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP | libc::ENAMETOOLONG) => 127,
        _ => 126,
    }
}

/// `create` stops here until `start` writes a byte.
fn wait_for_start(gate: BorrowedFd<'_>) -> io::Result<()> {
    use rustix::event::{PollFd, PollFlags, poll};
    loop {
        match poll(&mut [PollFd::new(&gate, PollFlags::IN)], None) {
            Ok(_) => break,
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    let mut byte = [0; 1];
    match rustix::io::read(gate, &mut byte)? {
        0 => Err(io::Error::other("the runtime went away")),
        _ => Ok(()),
    }
}
