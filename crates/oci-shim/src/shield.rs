//! Keeps containers from overwriting the runner.
//!
//! A process on its way into a container still has the runner as its `/proc/self/exe`. An image whose entry point is a
//! link to that file gets hold of it, and could write to it once nobody executes it any more (CVE-2019-5736). So the
//! runner executes itself once more from a read-only mount that exists nowhere but in that file descriptor: what
//! `/proc/self/exe` then leads to cannot be opened for writing, by root neither. Everything forked afterwards inherits it.

use crate::error::{Error, Result, Step};
use crate::plan::mount::READ_ONLY;
use crate::sys::{self, MountAttr};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, MemfdFlags, Mode, OFlags, SealFlags, StatVfsMountFlags};
use rustix::mount::{OpenTreeFlags, open_tree};
use std::ffi::{CString, OsString};
use std::io;
use std::os::unix::ffi::OsStringExt;

const SELF: &str = "/proc/self/exe";

/// Executes this program again, from a file that cannot be written; returns at once where that has happened already.
/// Call it at the top of `main`, before any thread exists and before anything that must not happen twice.
///
/// Afterwards the program's path reads as something that does not exist: to start it again, execute `/proc/self/exe`.
///
/// # Errors
/// When neither a read-only mount (`CAP_SYS_ADMIN`) nor a sealed copy in memory can be made.
pub fn shield_binary() -> Result<()> {
    let own = rustix::fs::open(SELF, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).step(|| format!("open {SELF}"))?;
    if is_shielded(&own) {
        return Ok(());
    }
    let file = read_only_mount()
        .or_else(|_| sealed_copy())
        .step(|| "protect the program's file".into())?;
    let text = |value: OsString| CString::new(value.into_vec()).expect("came from C strings");
    let argv: Vec<CString> = std::env::args_os().map(text).collect();
    let env: Vec<CString> = std::env::vars_os()
        .map(|(mut name, value)| {
            name.push("=");
            name.push(value);
            text(name)
        })
        .collect();
    let source = sys::fexecve_self(file.as_fd(), &argv, &env);
    Err(Error::Step {
        step: "execute the program again".into(),
        source,
    })
}

fn is_shielded(own: &OwnedFd) -> bool {
    let read_only = rustix::fs::fstatvfs(own).is_ok_and(|stat| stat.f_flag.contains(StatVfsMountFlags::RDONLY));
    let sealed = || {
        let file = rustix::fs::open(SELF, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        file.and_then(rustix::fs::fcntl_get_seals)
            .is_ok_and(|seals| seals.contains(SealFlags::WRITE))
    };
    read_only || sealed()
}

fn read_only_mount() -> io::Result<OwnedFd> {
    let tree = open_tree(
        CWD,
        SELF,
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
    )?;
    sys::mount_setattr(
        &tree,
        false,
        &MountAttr {
            set: READ_ONLY,
            ..MountAttr::default()
        },
    )?;
    Ok(tree)
}

fn sealed_copy() -> io::Result<OwnedFd> {
    let copy = rustix::fs::memfd_create("cata", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut copy = std::fs::File::from(copy);
    io::copy(&mut std::fs::File::open(SELF)?, &mut copy)?;
    rustix::fs::fchmod(&copy, Mode::from_raw_mode(0o555))?;
    let all = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&copy, all)?;
    Ok(copy.into())
}
