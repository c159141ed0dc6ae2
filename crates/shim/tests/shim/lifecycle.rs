//! Starting, ending, signals, execs, memory.

use crate::Test;
use crate::world::{World, block_on, bundle, eventually, exit_of, log_without_times, pipe, stdout_only};
use catamaran_shim::client::{Error, PodShim};
use catamaran_shim::runtime::Stdio;
use catamaran_shim::spec::Shared;
use oci_spec::runtime::{LinuxMemoryBuilder, LinuxResourcesBuilder, Process, ProcessBuilder};
use std::fs;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

pub(crate) const TESTS: &[Test] = &[
    ("lifecycle::exit_codes_are_kept_and_told", exit_codes_are_kept_and_told),
    (
        "lifecycle::what_cannot_start_leaves_nothing",
        what_cannot_start_leaves_nothing,
    ),
    (
        "lifecycle::the_pod_has_namespaces_of_its_own",
        the_pod_has_namespaces_of_its_own,
    ),
    (
        "lifecycle::what_is_shared_is_looked_up_at_the_start",
        what_is_shared_is_looked_up_at_the_start,
    ),
    (
        "lifecycle::containers_share_a_pid_namespace_when_asked",
        containers_share_a_pid_namespace_when_asked,
    ),
    (
        "lifecycle::descendants_end_with_the_first_process",
        descendants_end_with_the_first_process,
    ),
    ("lifecycle::signals_reach_one_or_all", signals_reach_one_or_all),
    (
        "lifecycle::too_much_memory_is_told_as_such",
        too_much_memory_is_told_as_such,
    ),
    (
        "lifecycle::execs_have_streams_and_exit_codes",
        execs_have_streams_and_exit_codes,
    ),
    (
        "lifecycle::execs_with_huge_environments_work",
        execs_with_huge_environments_work,
    ),
    ("lifecycle::an_exec_with_a_terminal", an_exec_with_a_terminal),
    ("lifecycle::a_pod_costs_little_memory", a_pod_costs_little_memory),
];

fn process(script: &str) -> Process {
    ProcessBuilder::default()
        .args(["/bin/sh", "-c", script].map(str::to_owned))
        .build()
        .unwrap()
}

fn exit_codes_are_kept_and_told() {
    let world = World::new();
    block_on(async {
        let mut pod = world.pod().await;
        for (id, script, code, signal) in [
            ("a0", "exit 0", 0, None),
            ("a3", "exit 3", 3, None),
            ("a9", "kill -9 $$", 137, Some(9)),
        ] {
            let (exit, _) = pod.run(id, script).await;
            assert_eq!((exit.code, exit.signal, exit.oom_killed), (code, signal, false), "{id}");
            assert!(exit.finished_at >= exit.started_at);
            assert_eq!(world.state_dir().exit(id).unwrap().as_ref(), Some(&exit));
            // Asking to start it again only tells how it ended.
            let again = pod.shim.start(&pod.bundle(id, &["/bin/true"])).await.unwrap();
            assert_eq!(again.exit, Some(exit));
        }
        let (_, _, states) = PodShim::connect(world.state_dir().path()).await.unwrap();
        assert_eq!(states.iter().filter_map(|state| state.exit.as_ref()).count(), 3);
        pod.shim.remove("a3").await.unwrap();
        pod.shim.remove("a3").await.unwrap();
        assert_eq!(world.state_dir().containers().unwrap(), ["a0", "a9"]);
        pod.sh("run", "exec sleep 1000").await;
        assert!(matches!(pod.shim.remove("run").await, Err(Error::Refused { .. })));
        assert!(matches!(
            pod.shim.signal("none", 9, false).await,
            Err(Error::NotFound { .. })
        ));
        pod.stop().await;
        world.assert_no_pods();
    });
}

fn what_cannot_start_leaves_nothing() {
    let world = World::new();
    block_on(async {
        let mut pod = world.pod().await;
        let config = pod.bundle("x", &["/nonexistent"]);
        match pod.shim.start(&config).await {
            Err(Error::Start(error)) => assert_eq!(error.exit_code, 127),
            other => panic!("{other:?}"),
        }
        let mut config = pod.bundle("y", &["/bin/true"]);
        config.log_path = Some("/nonexistent/dir/0.log".into());
        match pod.shim.start(&config).await {
            Err(Error::Start(error)) => {
                assert_eq!(error.reason, "CreateContainerError");
                assert!(error.message.contains("/nonexistent/dir/0.log"), "{error}");
            }
            other => panic!("{other:?}"),
        }
        // A runtime with a bug costs a container, not the pod.
        let buggy = pod.bundle("z", &["panic"]);
        assert!(matches!(pod.shim.start(&buggy).await, Err(Error::Refused { .. })));
        assert!(pod.shim.start(&pod.bundle("w", &["/bin/true"])).await.is_ok());
        assert_eq!(pod.exit("w").await.code, 0);
        let mut sly = pod.bundle("w", &["/bin/true"]);
        sly.id = "../w".into();
        assert!(matches!(pod.shim.start(&sly).await, Err(Error::Refused { .. })));
        pod.stop().await;
        world.assert_no_pods();
    });
}

fn the_pod_has_namespaces_of_its_own() {
    let world = World::new();
    block_on(async {
        let mut pod = world.pod().await;
        let script = "hostname; cat /sys/class/net/lo/flags /proc/sys/net/ipv4/ip_unprivileged_port_start \
                      /proc/sys/kernel/shm_rmid_forced; readlink /proc/self/ns/net /proc/self/ns/ipc";
        let (_, log) = pod.run("c1", script).await;
        let lines: Vec<_> = log.lines().map(|line| line.trim_start_matches("stdout F ")).collect();
        let own = |kind: &str| {
            fs::read_link(format!("/proc/self/ns/{kind}"))
                .unwrap()
                .display()
                .to_string()
        };
        let shim = |kind: &str| {
            fs::read_link(format!("/proc/{}/ns/{kind}", pod.shim.pid()))
                .unwrap()
                .display()
                .to_string()
        };
        assert_eq!(lines[0], "web-host");
        assert!(fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim() != "web-host");
        // `/sys` shows the network namespace it was mounted in; the shim's own view of lo is asked below.
        assert_eq!(lines[2..4], ["0", "1"]);
        assert_eq!(lines[4..], [shim("net"), shim("ipc")]);
        assert!(shim("net") != own("net") && shim("ipc") != own("ipc") && shim("uts") != own("uts"));
        let loopback = fs::read_to_string(format!("/proc/{}/net/fib_trie", pod.shim.pid())).unwrap();
        assert!(loopback.contains("127.0.0.1"), "the loopback link is down");
        let status = fs::read_to_string(format!("/proc/{}/stat", pod.shim.pid())).unwrap();
        let fields: Vec<_> = status.rsplit_once(')').unwrap().1.split_whitespace().collect();
        assert_eq!(fields[3], pod.shim.pid().to_string(), "its own session");
        assert!(
            fields[1] != pod.launcher.pid().await.to_string(),
            "not the launcher's child"
        );
        let title = fs::read_to_string(format!("/proc/{}/cmdline", pod.shim.pid())).unwrap();
        assert!(title.starts_with("cata: pod default"), "{title}");
        let threads = fs::read_dir(format!("/proc/{}/task", pod.shim.pid())).unwrap().count();
        assert_eq!(threads, 1);
        pod.stop().await;
        world.assert_no_pods();
    });
}

fn what_is_shared_is_looked_up_at_the_start() {
    let world = World::new();
    block_on(async {
        let mut pod = world.pod().await;
        let shared = |processes: Option<&str>, memory: &str| Shared {
            processes: processes.map(str::to_owned),
            memory: Some(memory.to_owned()),
        };
        let target = pod.shim.start(&pod.bundle("c1", &["sleep", "1000"])).await.unwrap();
        let mut looking = pod.bundle("c2", &["/bin/sh", "-c", "echo $PROCESSES_OF $MEMORY_OF"]);
        looking.shared = shared(Some("c1"), "c1");
        pod.shim.start(&looking).await.unwrap();
        assert_eq!(pod.exit("c2").await.code, 0);
        let said = log_without_times(looking.log_path.as_deref().unwrap());
        assert!(said.ends_with(&format!(" {0} {0}\n", target.pid)), "{said}");
        // A number of who has ended may be somebody else's.
        pod.shim.signal("c1", libc::SIGKILL, true).await.unwrap();
        pod.exit("c1").await;
        let mut late = pod.bundle("c3", &["/bin/sh", "-c", "echo late $PROCESSES_OF $MEMORY_OF"]);
        late.shared = shared(Some("c1"), "c1");
        match pod.shim.start(&late).await {
            Err(Error::Start(error)) => {
                assert_eq!(error.reason, "CreateContainerConfigError");
                assert!(error.message.contains("c1 is not running"), "{error}");
            }
            other => panic!("{other:?}"),
        }
        late.shared = shared(None, "c1");
        pod.shim.start(&late).await.unwrap();
        assert_eq!(pod.exit("c3").await.code, 0);
        let said = log_without_times(late.log_path.as_deref().unwrap());
        assert!(said.ends_with(" late\n"), "{said}");
        pod.stop().await;
        world.assert_no_pods();
    });
}

fn containers_share_a_pid_namespace_when_asked() {
    let world = World::new();
    block_on(async {
        let mut config = world.pod_config();
        config.share_process_namespace = true;
        let mut pod = world.pod_with(config).await;
        let orphaning = "(sleep 0 & exec sleep 1000) & readlink /proc/self/ns/pid; echo $$";
        let (_, first) = pod.run("c1", "readlink /proc/self/ns/pid; echo $$").await;
        let (exit, second) = pod.run("c2", orphaning).await;
        assert_eq!(exit.code, 0);
        let pids: Vec<i32> = [&first, &second]
            .map(|log| log.lines().last().unwrap().rsplit(' ').next().unwrap().parse().unwrap())
            .into();
        // Pid 1 is the pause process, and ids go on counting in one namespace.
        assert!(pids[0] > 1 && pids[0] < pids[1] && pids[1] < 100, "{pids:?}");
        pod.stop().await;
        world.assert_no_pods();
    });
}

fn descendants_end_with_the_first_process() {
    let world = World::new();
    block_on(async {
        let mut pod = world.pod().await;
        // Both keep the log pipe open; one has also left the session.
        let (exit, log) = pod.run("c1", "sleep 1000 & setsid sleep 1000 & echo bye; exit 4").await;
        assert_eq!((exit.code, log.as_str()), (4, "stdout F bye\n"));
        // What remains is the shim.
        eventually("descendants gone", || world.processes().len() == 1);
        pod.stop().await;
        world.assert_no_pods();
    });
}

fn signals_reach_one_or_all() {
    let world = World::new();
    block_on(async {
        let mut pod = world.pod().await;
        let config = pod
            .sh(
                "c1",
                "trap 'echo caught; exit 5' TERM; echo ready; while :; do sleep 0.01; done",
            )
            .await;
        let log = config.log_path.unwrap();
        eventually("ready", || {
            fs::read_to_string(&log).is_ok_and(|text| text.contains("ready"))
        });
        pod.shim.signal("c1", 15, false).await.unwrap();
        assert_eq!(pod.exit("c1").await.code, 5);
        pod.shim.signal("c1", 9, true).await.unwrap();
        // Who says that it is up is the last to have its trap.
        let script = "trap 'wait; exit 6' USR1; \
                      sh -c 'trap \"echo child; exit\" USR1; echo up; while :; do sleep 0.01; done' & \
                      wait; wait; exit 7";
        let config = pod.sh("c2", script).await;
        let log = config.log_path.unwrap();
        eventually("up", || fs::read_to_string(&log).is_ok_and(|text| text.contains("up")));
        pod.shim.signal("c2", libc::SIGUSR1, true).await.unwrap();
        assert_eq!(pod.exit("c2").await.code, 6);
        assert!(fs::read_to_string(&log).unwrap().contains("child"));
        pod.stop().await;
    });
}

fn too_much_memory_is_told_as_such() {
    let world = World::new();
    block_on(async {
        let mut pod = world.pod().await;
        let limit: i64 = 16 << 20;
        let memory = LinuxMemoryBuilder::default().limit(limit).swap(limit).build().unwrap();
        let resources = LinuxResourcesBuilder::default().memory(memory).build().unwrap();
        let args = [
            "/bin/sh",
            "-c",
            "tail -c 100m /dev/zero | cat > /dev/null; exec tail /dev/zero",
        ];
        let config = bundle(&world.run_dir, &world.instance, "big", &args, resources);
        pod.shim.start(&config).await.unwrap();
        let exit = pod.exit("big").await;
        assert_eq!((exit.code, exit.oom_killed), (137, true), "{exit:?}");
        let (exit, _) = pod.run("small", "exit 1").await;
        assert!(!exit.oom_killed);
        pod.stop().await;
        world.assert_no_pods();
    });
}

fn execs_have_streams_and_exit_codes() {
    let world = World::new();
    block_on(async {
        let pod = world.pod().await;
        pod.sh("c1", "exec sleep 1000").await;
        let (mut reader, writer) = pipe();
        let session = pod
            .shim
            .exec("c1", &process("echo out; echo err >&2; exit 9"), stdout_only(writer))
            .await
            .unwrap();
        let mut output = String::new();
        reader.read_to_string(&mut output).await.unwrap();
        assert_eq!(output, "out\n");
        assert_eq!(session.exited.await.unwrap().code, 9);
        // Many at once, and one that is killed by its id.
        let long = pod
            .shim
            .exec("c1", &process("exec sleep 1000"), Stdio::default())
            .await
            .unwrap();
        let short: Vec<_> = (0..20).map(|code| (code, pod.shim.clone())).collect();
        let mut tasks = tokio::task::JoinSet::new();
        for (code, shim) in short {
            tasks.spawn(async move {
                let session = shim
                    .exec("c1", &process(&format!("exit {code}")), Stdio::default())
                    .await
                    .unwrap();
                assert_eq!(session.exited.await.unwrap().code, code);
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        pod.shim.signal(&long.exec_id, 9, false).await.unwrap();
        assert_eq!(long.exited.await.unwrap().signal, Some(9));
        let missing = ProcessBuilder::default()
            .args(["/nonexistent".to_owned()])
            .build()
            .unwrap();
        assert!(matches!(
            pod.shim.exec("c1", &missing, Stdio::default()).await,
            Err(Error::Start(_))
        ));
        pod.stop().await;
        world.assert_no_pods();
    });
}

fn execs_with_huge_environments_work() {
    let world = World::new();
    block_on(async {
        let pod = world.pod().await;
        pod.sh("c1", "exec sleep 1000").await;
        let env: Vec<String> = (0..15)
            .map(|index| format!("V{index}={}", "x".repeat(100_000)))
            .collect();
        let args = ["/bin/sh", "-c", "echo ${#V0} ${#V14}"].map(str::to_owned);
        let process = ProcessBuilder::default().args(args).env(env).build().unwrap();
        let (mut reader, writer) = pipe();
        let session = pod.shim.exec("c1", &process, stdout_only(writer)).await.unwrap();
        let mut output = String::new();
        reader.read_to_string(&mut output).await.unwrap();
        assert_eq!(output, "100000 100000\n");
        assert_eq!(session.exited.await.unwrap().code, 0);
        pod.stop().await;
    });
}

fn an_exec_with_a_terminal() {
    let world = World::new();
    block_on(async {
        let pod = world.pod().await;
        pod.sh("c1", "exec sleep 1000").await;
        let mut process = process("read x; stty size; exit 3");
        process.set_terminal(Some(true));
        let session = pod.shim.exec("c1", &process, Stdio::default()).await.unwrap();
        pod.shim.resize(&session.exec_id, 33, 77).await.unwrap();
        let mut console = tokio::fs::File::from_std(fs::File::from(session.console.unwrap()));
        console.write_all(b"go\n").await.unwrap();
        let mut output = Vec::new();
        // A terminal ends with an error once nobody has its other side.
        let _ = console.read_to_end(&mut output).await;
        assert!(
            String::from_utf8_lossy(&output).contains("33 77"),
            "{}",
            String::from_utf8_lossy(&output)
        );
        assert_eq!(session.exited.await.unwrap().code, 3);
        // Closing the console hangs up on whoever is on it.
        let session = pod.shim.exec("c1", &process, Stdio::default()).await.unwrap();
        drop(session.console);
        let exit = session.exited.await.unwrap();
        assert!(exit.code != 0, "{exit:?}");
        pod.stop().await;
        world.assert_no_pods();
    });
}

fn a_pod_costs_little_memory() {
    let world = World::new();
    block_on(async {
        let mut pod = world.pod().await;
        pod.sh("c1", "echo hello; exec sleep 1000").await;
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", pod.shim.pid())).unwrap();
        let shown: Vec<_> = rollup
            .lines()
            .filter(|line| line.starts_with("Private_Dirty") || line.starts_with("Pss:"))
            .collect();
        println!("pod shim: {shown:?}");
        pod.shim.signal("c1", 9, false).await.unwrap();
        assert_eq!(exit_of(&mut pod.events, "c1").await.code, 137);
        pod.stop().await;
    });
}
