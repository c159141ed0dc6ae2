//! Who may die, and what must not be lost with them.

use crate::Test;
use crate::agent::STEPS;
use crate::world::{PATIENCE, World, block_on, eventually, exit_of, netns};
use catamaran_shim::client::{Error, Event, Launcher, PodShim};
use catamaran_shim::launcher::LauncherHandle;
use catamaran_shim::leftovers;
use catamaran_shim::runtime::Stdio;
use catamaran_shim::state_dir::{StateDir, start_time_ticks};
use oci_spec::runtime::ProcessBuilder;
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketType, connect, send, socket};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio as ProcessStdio};

pub(crate) const TESTS: &[Test] = &[
    (
        "survival::an_agent_killed_at_any_step_finds_all_again",
        an_agent_killed_at_any_step_finds_all_again,
    ),
    ("survival::a_dead_launcher_is_replaced", a_dead_launcher_is_replaced),
    (
        "survival::a_dead_shim_is_noticed_and_cleaned_up_after",
        a_dead_shim_is_noticed_and_cleaned_up_after,
    ),
    (
        "survival::a_shim_that_published_nothing_is_found_by_its_lock",
        a_shim_that_published_nothing_is_found_by_its_lock,
    ),
    (
        "survival::bad_messages_hurt_only_their_sender",
        bad_messages_hurt_only_their_sender,
    ),
    ("survival::execs_end_with_their_agent", execs_end_with_their_agent),
    ("survival::two_shims_never_share_a_pod", two_shims_never_share_a_pod),
    (
        "survival::failed_creations_leave_nothing",
        failed_creations_leave_nothing,
    ),
    ("survival::many_pods_come_and_go", many_pods_come_and_go),
    ("survival::shutting_down_twice_is_fine", shutting_down_twice_is_fine),
];

/// An agent in a process of its own, brought to a step and killed there.
fn kill_agent_at(world: &World, step: &str) {
    let mut agent: Child = Command::new("/proc/self/exe")
        .args(["__agent", &world.instance])
        .stdin(ProcessStdio::piped())
        .stdout(ProcessStdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(agent.stdout.take().unwrap());
    loop {
        let mut reached = String::new();
        output.read_line(&mut reached).unwrap();
        assert!(!reached.is_empty(), "the agent ended by itself before {step}");
        if reached.trim() == step {
            break;
        }
        agent.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }
    agent.kill().unwrap();
    agent.wait().unwrap();
}

/// The numbers that the agent's container has logged so far; without a gap.
fn counted(world: &World) -> usize {
    let text = fs::read_to_string(world.run_dir.join("c1.log")).unwrap_or_default();
    for (number, line) in text.lines().enumerate().filter(|_| text.ends_with('\n')) {
        assert!(line.ends_with(&format!("stdout F line {number}")), "{number}: {line}");
    }
    text.lines().count()
}

fn an_agent_killed_at_any_step_finds_all_again() {
    for step in STEPS {
        let world = World::new();
        kill_agent_at(&world, step);
        block_on(async {
            let dir = world.state_dir();
            // The shim may be on its way when its agent dies; then it is there in a moment, or never.
            if step == "creating" {
                let launched = || dir.sandbox().unwrap().is_some() || world.processes().is_empty();
                eventually("the shim is there or not", launched);
            }
            match PodShim::connect(dir.path()).await {
                Ok((shim, mut events, states)) => {
                    assert!(step != "launched");
                    survivors(&world, &shim, &states, step);
                    if let [state] = states.as_slice() {
                        shim.signal(&state.config.id, 9, false).await.unwrap();
                        assert_eq!(exit_of(&mut events, "c1").await.code, 137);
                        counted(&world);
                    }
                    shim.shutdown().await.unwrap();
                }
                Err(Error::Gone { .. }) => assert!(step == "launched" || step == "creating", "{step}"),
                Err(error) => panic!("{step}: {error:?}"),
            }
            if step != "launched" && step != "creating" {
                world.assert_no_pods();
            }
        });
    }
}

fn survivors(world: &World, shim: &PodShim, states: &[catamaran_shim::spec::ContainerState], step: &str) {
    if matches!(step, "started" | "executing") {
        let [state] = states else { panic!("{step}: {states:?}") };
        assert_eq!(world.state_dir().state("c1").unwrap().unwrap().pid, state.pid);
        assert!(start_time_ticks(state.pid).is_some() && start_time_ticks(shim.pid()).is_some());
        // It goes on, and no line is missing from when nobody listened.
        let before = counted(world);
        eventually("the container goes on", || counted(world) > before + 1000);
    }
    if step == "executing" {
        eventually("the exec is gone", || {
            world.processes().iter().all(|process| !process.contains("sleep"))
        });
    }
}

fn a_dead_launcher_is_replaced() {
    let world = World::new();
    block_on(async {
        let launcher = Launcher::new(LauncherHandle::spawn().unwrap()).unwrap();
        for round in 0..3 {
            let old = launcher.pid().await;
            if round > 0 {
                // SAFETY: the launcher is this process's unreaped child, so the pid is its own.
                assert_eq!(unsafe { libc::kill(old, libc::SIGKILL) }, 0);
            }
            let config = world.pod_config();
            world.prepare(&config);
            let (shim, _events) = launcher.create_pod(&config, netns()).await.unwrap();
            assert_eq!(round > 0, launcher.pid().await != old);
            shim.shutdown().await.unwrap();
        }
        let last = launcher.pid().await;
        drop(launcher);
        eventually("the launcher ends with its agent", || start_time_ticks(last).is_none());
        world.assert_no_pods();
    });
}

fn a_dead_shim_is_noticed_and_cleaned_up_after() {
    let world = World::new();
    block_on(async {
        let mut pod = world.pod().await;
        pod.sh("c1", "sleep 1000 & exec sleep 1000").await;
        // SAFETY: the shim was asked for its pid a moment ago and lives.
        assert_eq!(unsafe { libc::kill(pod.shim.pid(), libc::SIGKILL) }, 0);
        assert_eq!(pod.events.recv().await, Some(Event::Gone));
        assert!(matches!(pod.shim.signal("c1", 9, false).await, Err(Error::Gone { .. })));
        let dir = world.state_dir();
        assert!(matches!(PodShim::connect(dir.path()).await, Err(Error::Gone { .. })));
        assert!(
            !world.processes().is_empty(),
            "the container outlives its shim until it is cleaned up after"
        );
        let sandbox = dir.sandbox().unwrap();
        leftovers::remove_pod(&dir, sandbox.as_ref()).unwrap();
        world.assert_no_pods();
        // And a new one takes its place.
        let config = world.pod_config();
        world.prepare(&config);
        let (shim, _events) = pod.launcher.create_pod(&config, netns()).await.unwrap();
        shim.shutdown().await.unwrap();
        world.assert_no_pods();
    });
}

fn a_shim_that_published_nothing_is_found_by_its_lock() {
    let world = World::new();
    block_on(async {
        let pod = world.pod().await;
        let dir = world.state_dir();
        // As an agent finds it whose predecessor was killed while the shim was being set up.
        fs::remove_file(dir.path().join("sandbox.json")).unwrap();
        leftovers::remove_pod(&dir, None).unwrap();
        assert_eq!(start_time_ticks(pod.shim.pid()), None);
        leftovers::remove_pod(&dir, None).unwrap();
    });
}

fn bad_messages_hurt_only_their_sender() {
    let world = World::new();
    block_on(async {
        let mut pod = world.pod().await;
        let address = SocketAddrUnix::new(world.state_dir().socket()).unwrap();
        let messages: [&[u8]; 7] = [
            b"",
            b"x",
            b"i{",
            b"f",
            b"i{\"id\":1,\"operation\":\"dance\"}",
            b"i{\"id\":2,\"operation\":\"exec\",\"container_id\":\"c\",\"process\":{},\"streams\":{}}",
            &[b'i'; 60_000],
        ];
        for message in messages {
            let client = socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).unwrap();
            connect(&client, &address).unwrap();
            let _ = send(&client, message, SendFlags::NOSIGNAL);
        }
        // Some that connect and never read.
        let idle: Vec<_> = (0..20)
            .map(|_| {
                let client = socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).unwrap();
                connect(&client, &address).map(|()| client)
            })
            .collect();
        let (exit, _) = pod.run("c1", "exit 8").await;
        assert_eq!(exit.code, 8);
        drop(idle);
        pod.stop().await;
        world.assert_no_pods();
    });
}

fn execs_end_with_their_agent() {
    let world = World::new();
    block_on(async {
        let pod = world.pod().await;
        pod.sh("c1", "exec tail -f /dev/null").await;
        let process = ProcessBuilder::default()
            .args(["/bin/sleep", "1000"].map(str::to_owned))
            .build()
            .unwrap();
        let (second, events, _) = PodShim::connect(world.state_dir().path()).await.unwrap();
        let session = second.exec("c1", &process, Stdio::default()).await.unwrap();
        assert!(start_time_ticks(session.pid).is_some());
        drop((second, events));
        eventually("the exec is gone", || start_time_ticks(session.pid).is_none());
        pod.stop().await;
        world.assert_no_pods();
    });
}

fn two_shims_never_share_a_pod() {
    let world = World::new();
    block_on(async {
        let pod = world.pod().await;
        match pod.launcher.create_pod(&world.pod_config(), netns()).await {
            Err(Error::Create { message }) => assert!(message.contains("already running"), "{message}"),
            other => panic!("{other:?}"),
        }
        pod.sh("c1", "exec sleep 1000").await;
        pod.stop().await;
        world.assert_no_pods();
    });
}

fn failed_creations_leave_nothing() {
    let world = World::new();
    block_on(async {
        let launcher = Launcher::new(LauncherHandle::spawn().unwrap()).unwrap();
        let mut config = world.pod_config();
        world.prepare(&config);
        config.sysctls = [("kernel.panic".to_owned(), "1".to_owned())].into();
        match launcher.create_pod(&config, netns()).await {
            Err(Error::Create { message }) => assert_eq!(message, "sysctl kernel.panic is not namespaced"),
            other => panic!("{other:?}"),
        }
        eventually("no process is left", || world.processes().is_empty());
        assert_eq!(world.state_dir().sandbox().unwrap(), None);
        // Not a network namespace.
        let file = fs::File::open("/proc/self/status").unwrap().into();
        let refused = launcher.create_pod(&world.pod_config(), file).await;
        assert!(matches!(refused, Err(Error::Create { .. })), "{refused:?}");
    });
}

fn many_pods_come_and_go() {
    let world = World::new();
    block_on(async {
        let launcher = Launcher::new(LauncherHandle::spawn().unwrap()).unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..20 {
            let mut config = world.pod_config();
            config.uid = format!("u{number}");
            config.state_dir = StateDir::of_pod(&world.run_dir, &config.uid).path().to_owned();
            config.cgroup = format!("/catamaran-{}/pod{}", world.instance, config.uid);
            world.prepare(&config);
            let launcher = launcher.clone();
            tasks.spawn(async move {
                let (shim, _events) = launcher.create_pod(&config, netns()).await.unwrap();
                shim.shutdown().await.unwrap();
            });
        }
        while let Some(done) = tokio::time::timeout(PATIENCE, tasks.join_next()).await.unwrap() {
            done.unwrap();
        }
        // Nothing unreaped is the launcher's.
        let pid = launcher.pid().await;
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        assert_eq!(children.trim(), "");
        world.assert_no_pods();
    });
}

fn shutting_down_twice_is_fine() {
    let world = World::new();
    block_on(async {
        let mut pod = world.pod().await;
        pod.sh("c1", "trap '' TERM; while :; do sleep 0.01; done").await;
        pod.shim.shutdown().await.unwrap();
        pod.shim.shutdown().await.unwrap();
        while let Some(event) = pod.events.recv().await {
            assert!(matches!(event, Event::Exited { .. } | Event::Gone));
        }
        world.assert_no_pods();
    });
}
