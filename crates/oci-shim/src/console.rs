//! The terminal of a container: a pty of the container's own devpts, so that its name means something inside.

use crate::error::{Error, Result, Step};
use crate::paths::Root;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::OFlags;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;
use std::path::Path;

const DEVPTS_MAGIC: i64 = 0x1cd1;

/// Both ends of a new pty. The master goes to the parent, the slave becomes stdin, stdout and stderr.
pub(crate) struct Console {
    pub master: OwnedFd,
    pub slave: OwnedFd,
}

/// Opens a pty in the container below `root`.
pub(crate) fn open(root: &Root, size: Option<(u16, u16)>, owner: u32) -> Result<Console> {
    let path = Path::new("/dev/pts/ptmx");
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NOFOLLOW;
    let master = root
        .open_at(path, flags)
        .step(|| "open a terminal: /dev/pts/ptmx of the container".into())?;
    // The image could have put anything there.
    let statfs = rustix::fs::fstatfs(&master).step(|| "inspect /dev/pts/ptmx".into())?;
    if statfs.f_type as i64 != DEVPTS_MAGIC {
        return Err(Error::Refused(
            "process.terminal needs a devpts mount at /dev/pts".into(),
        ));
    }
    rustix::pty::unlockpt(&master).step(|| "unlock the terminal".into())?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).step(|| "open the terminal's slave".into())?;
    if let Some((rows, columns)) = size.filter(|(rows, columns)| *rows != 0 || *columns != 0) {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(&master, size).step(|| "set the terminal's size".into())?;
    }
    let owner = rustix::fs::Uid::from_raw(owner);
    rustix::fs::fchown(&slave, Some(owner), None).step(|| "give the terminal to the user".into())?;
    Ok(Console { master, slave })
}

/// Shows the slave as `/dev/console`.
pub(crate) fn mount_as_console(root: &Root, slave: &OwnedFd) -> Result<()> {
    let step = || "mount the terminal at /dev/console".to_owned();
    let target = root.make_file(Path::new("/dev/console")).step(step)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = open_tree(slave.as_fd(), "", flags).step(step)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(&tree, "", &target, "", flags).step(step)
}
