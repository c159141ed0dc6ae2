//! Ends: of a process, of an agent's connection, of the pod.

use super::{FAREWELL, Pod, exit_code};
use crate::cgroup::Cgroup;
use crate::message::{Answer, FromShim};
use crate::spec::Exit;
use crate::state_dir::EXIT_MESSAGE_FILE;
use crate::sys;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{WaitOptions, WaitStatus};
use std::io::Read as _;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Instant;

/// Most bytes of last words; Kubernetes' bound for a termination message.
const MESSAGE_MAX: u64 = 4096;
/// How long killed containers may take to become reapable.
const KILLED: std::time::Duration = std::time::Duration::from_secs(5);

impl Pod {
    /// A child was reaped: a container's first process, an exec's, or an orphan that was left to this subreaper.
    pub(super) fn ended(&mut self, pid: i32, status: WaitStatus) {
        if self.ready.pause == Some(pid) {
            // Its number may be anybody's from now on.
            self.ready.pause = None;
        }
        let running = self
            .containers
            .iter()
            .position(|found| found.state.pid == pid && found.is_running());
        if let Some(index) = running {
            self.container_ended(index, status);
        } else if let Some(index) = self.execs.iter().position(|exec| exec.pid == pid) {
            self.exec_ended(index, status);
        }
    }

    fn container_ended(&mut self, index: usize, status: WaitStatus) {
        let finished_at = jiff::Timestamp::now();
        let (code, signal) = exit_code(status);
        let container = &mut self.containers[index];
        let id = container.state.config.id.clone();
        let bundle = self.ready.state_dir.container(&id);
        // Asked before the runtime removes the group.
        let cgroup = Cgroup::open(&format!("{}/{id}", self.config.cgroup));
        let oom_killed = code != 0 && cgroup.is_ok_and(|cgroup| cgroup.oom_kills() > 0);
        // After this nobody in the container can write, so what the pipes hold is all.
        let runtime = Self::runtime(&mut self.runtimes, container.state.config.runtime);
        let cleaned = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.cleanup(&id, &bundle)));
        drop(cleaned);
        container.finish(&mut self.scratch);
        let message = last_words(&bundle);
        let exit = Exit {
            code,
            signal,
            oom_killed,
            started_at: container.state.started_at,
            finished_at,
            message,
        };
        container.state.exit = Some(exit.clone());
        // The files first: an agent that hears of the end, or dies hearing of it, finds them. Should the tmpfs be full,
        // this process still knows.
        let _ = self.ready.state_dir.write_exit(&id, &exit);
        let _ = self.ready.state_dir.write_state(&container.state);
        self.clients.tell_all(|| FromShim::Exited {
            id: id.clone(),
            exit: exit.clone(),
        });
    }

    fn exec_ended(&mut self, index: usize, status: WaitStatus) {
        let exec = self.execs.remove(index);
        let (code, signal) = exit_code(status);
        let exit = Exit {
            code,
            signal,
            oom_killed: false,
            started_at: exec.started_at,
            finished_at: jiff::Timestamp::now(),
            message: String::new(),
        };
        if let Some(client) = self.clients.get(exec.client) {
            client.send(&FromShim::ExecExited { exec_id: exec.id, exit }, Vec::new());
        }
    }

    /// Nobody reads what these write, or waits for them, any more.
    pub(super) fn kill_execs_of(&mut self, client: u64) {
        for exec in self.execs.iter().filter(|exec| exec.client == client) {
            let _ = sys::pidfd_send_signal(exec.pidfd.as_fd(), libc::SIGKILL);
        }
    }

    /// The end of the pod's processes. Cgroup and state directory stay: nobody can remove a group with himself in it, and
    /// moving out of one costs the machine more than anything else here. Whoever asked removes both when this process has
    /// ended, or the next agent, which finds them as it finds those of a shim that was killed.
    pub(super) fn end(mut self, client: u64, request: u64) {
        for container in self.containers.iter().filter(|container| container.is_running()) {
            if let Ok(cgroup) = Cgroup::open(&format!("{}/{}", self.config.cgroup, container.state.config.id)) {
                let _ = cgroup.kill_all();
            }
            let _ = sys::pidfd_send_signal(container.pidfd(), libc::SIGKILL);
        }
        self.reap_killed();
        if let Some(pause) = self.ready.pause.take() {
            sys::kill(pause, libc::SIGKILL);
            let _ = rustix::process::waitpid(rustix::process::Pid::from_raw(pause), WaitOptions::empty());
        }
        if let Some(client) = self.clients.get(client) {
            client.send(
                &FromShim::Reply {
                    id: request,
                    outcome: Ok(Answer::Done),
                },
                Vec::new(),
            );
            let deadline = Instant::now() + FAREWELL;
            while client.is_waiting() && Instant::now() < deadline {
                let mut fds = [PollFd::from_borrowed_fd(client.fd(), PollFlags::OUT)];
                let _ = poll(
                    &mut fds,
                    Some(&Timespec {
                        tv_sec: 0,
                        tv_nsec: 100_000_000,
                    }),
                );
                client.flush();
            }
        }
    }

    fn reap_killed(&mut self) {
        let deadline = Instant::now() + KILLED;
        loop {
            self.reap();
            let alive = self.containers.iter().find(|container| container.is_running());
            let Some(container) = alive.filter(|_| Instant::now() < deadline) else {
                return;
            };
            let mut fds = [PollFd::from_borrowed_fd(container.pidfd(), PollFlags::IN)];
            let _ = poll(
                &mut fds,
                Some(&Timespec {
                    tv_sec: 0,
                    tv_nsec: 100_000_000,
                }),
            );
        }
    }
}

fn last_words(bundle: &Path) -> String {
    let mut words = Vec::new();
    if let Ok(file) = std::fs::File::open(bundle.join(EXIT_MESSAGE_FILE)) {
        let _ = file.take(MESSAGE_MAX).read_to_end(&mut words);
    }
    String::from_utf8_lossy(&words).trim_end().to_owned()
}
