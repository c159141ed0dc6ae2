//! Ending everything in a group, and removing it: waiting for the kernel's events, not for time to pass.

use super::{Cgroup, Error, Version, v1};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long killed processes may take to end. Only uninterruptible sleep makes it long.
const ENDING: Duration = Duration::from_secs(5);
/// Longest single wait for an event; guards against one that was missed.
const NAP: Duration = Duration::from_millis(20);
/// First wait for something that has no event and takes the kernel microseconds; each further one is twice as long.
const BLINK: Duration = Duration::from_micros(50);

pub(super) fn pids(cgroup: &Cgroup) -> Vec<i32> {
    // Any hierarchy would do, but a process may have failed to join the last ones: ask the one it joins first.
    let mut found = Vec::new();
    if let Some(dir) = cgroup.dirs.first() {
        collect_pids(&dir.path, &mut found);
    }
    found
}

fn collect_pids(dir: &Path, found: &mut Vec<i32>) {
    let own = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    found.extend(
        own.lines()
            .filter_map(|line| line.parse::<i32>().ok())
            .filter(|pid| *pid > 0),
    );
    for child in subdirectories(dir) {
        collect_pids(&child, found);
    }
}

fn subdirectories(dir: &Path) -> impl Iterator<Item = std::path::PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
}

pub(super) fn signal_all(cgroup: &Cgroup, signal: i32) {
    for pid in pids(cgroup) {
        crate::sys::kill(pid, signal);
    }
}

pub(super) fn kill_all(cgroup: &Cgroup) -> Result<(), Error> {
    if !cgroup.exists() {
        return Ok(());
    }
    let deadline = Instant::now() + ENDING;
    if let Some(dir) = cgroup.unified_dir()
        && super::write_value(&dir.join("cgroup.kill"), "1").is_ok()
    {
        wait_unpopulated(dir, deadline);
    }
    // What never reached the unified tree, and machines without it.
    let freezers = cgroup
        .dirs
        .iter()
        .filter(|dir| v1::has_freezer(dir.version, &dir.controllers));
    let freezers: Vec<_> = freezers.collect();
    loop {
        let mut left = Vec::new();
        for dir in &cgroup.dirs {
            collect_pids(&dir.path, &mut left);
        }
        if left.is_empty() {
            return Ok(());
        }
        freezers.iter().for_each(|dir| v1::freeze(&dir.path, true));
        left.iter().for_each(|pid| crate::sys::kill(*pid, libc::SIGKILL));
        freezers.iter().for_each(|dir| v1::freeze(&dir.path, false));
        if Instant::now() >= deadline {
            return Err(Error::Busy {
                path: cgroup.path.clone(),
            });
        }
        wait_for_end(&left);
    }
}

/// `cgroup.events` becomes readable with priority when `populated` changes (`cgroups(7)`).
fn wait_unpopulated(dir: &Path, deadline: Instant) {
    let Ok(events) = fs::File::open(dir.join("cgroup.events")) else {
        return;
    };
    loop {
        let mut text = [0_u8; 256];
        // Reading from the start also arms the next event.
        let Ok(length) = rustix::io::pread(&events, &mut text, 0) else {
            return;
        };
        let populated = std::str::from_utf8(&text[..length])
            .ok()
            .and_then(|text| super::keyed(text, "populated"));
        if populated != Some(1) || Instant::now() >= deadline {
            return;
        }
        nap(&mut [PollFd::new(&events, PollFlags::PRI)]);
    }
}

fn wait_for_end(pids: &[i32]) {
    let open = |pid: &i32| pidfd_open(Pid::from_raw(*pid)?, PidfdFlags::empty()).ok();
    let first: Option<OwnedFd> = pids.iter().find_map(open);
    if let Some(pidfd) = &first {
        nap(&mut [PollFd::new(pidfd, PollFlags::IN)]);
    }
}

fn nap(fds: &mut [PollFd<'_>]) {
    let longest = Timespec {
        tv_sec: 0,
        tv_nsec: i64::from(NAP.subsec_nanos()),
    };
    let _ = poll(fds, Some(&longest));
}

pub(super) fn remove(cgroup: &Cgroup) -> Result<(), Error> {
    let deadline = Instant::now() + ENDING;
    // The unified tree first: only there the wait for ending processes has an event.
    let unified_first = cgroup.dirs.iter().rev();
    for dir in unified_first {
        let mut blink = BLINK;
        while let Err(source) = remove_tree(&dir.path) {
            let busy = source.raw_os_error() == Some(libc::EBUSY);
            if !busy {
                return Err(Error::File {
                    step: "remove",
                    path: dir.path.clone(),
                    source,
                });
            }
            if Instant::now() >= deadline {
                return Err(Error::Busy {
                    path: cgroup.path.clone(),
                });
            }
            wait_emptier(dir.version, &dir.path, blink);
            blink = (blink * 2).min(NAP);
        }
    }
    Ok(())
}

fn wait_emptier(version: Version, dir: &Path, blink: Duration) {
    let mut left = Vec::new();
    collect_pids(dir, &mut left);
    if version == Version::V2 && !left.is_empty() {
        wait_unpopulated(dir, Instant::now() + NAP);
    } else if left.is_empty() {
        // The last task is between leaving the list and leaving the group; there is no event for that.
        std::thread::sleep(blink);
    } else {
        wait_for_end(&left);
    }
}

fn remove_tree(dir: &Path) -> io::Result<()> {
    match fs::remove_dir(dir) {
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        done => return done,
    }
    for child in subdirectories(dir) {
        remove_tree(&child)?;
    }
    match fs::remove_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}
