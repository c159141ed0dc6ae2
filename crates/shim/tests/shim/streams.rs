//! Output, input, terminals, attaching.

use crate::Test;
use crate::world::{World, block_on, eventually, log_without_times, pipe, pipe_in, stdout_only};
use catamaran_shim::runtime::Stdio;
use std::fs;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

pub(crate) const TESTS: &[Test] = &[
    ("streams::lines_become_log_entries", lines_become_log_entries),
    ("streams::large_output_arrives_whole", large_output_arrives_whole),
    (
        "streams::a_log_that_cannot_be_written_hurts_nobody",
        a_log_that_cannot_be_written_hurts_nobody,
    ),
    ("streams::logs_rotate", logs_rotate),
    ("streams::input_flows_and_ends_once", input_flows_and_ends_once),
    ("streams::output_fans_out", output_fans_out),
    (
        "streams::a_reader_that_sleeps_is_dropped",
        a_reader_that_sleeps_is_dropped,
    ),
    ("streams::attached_clients_are_bounded", attached_clients_are_bounded),
    ("streams::terminals", terminals),
];

fn lines_become_log_entries() {
    let world = World::new();
    block_on(async {
        let mut pod = world.pod().await;
        let (_, log) = pod.run("c1", "echo one; printf 'two\\n\\nend'").await;
        assert_eq!(log, "stdout F one\nstdout F two\nstdout F \nstdout P end\n");
        let (_, log) = pod
            .run("c2", "printf part; sleep 0.05; echo ' whole'; echo err >&2")
            .await;
        assert!(
            log.contains("stdout F part whole\n") && log.contains("stderr F err\n"),
            "{log}"
        );
        let (_, log) = pod.run("c3", "head -c 40000 /dev/zero | tr '\\0' x; echo").await;
        let lengths: Vec<_> = log.lines().map(|line| (&line[..8], line.len() - 9)).collect();
        assert_eq!(lengths, [("stdout P", 16384), ("stdout P", 16384), ("stdout F", 7232)]);
        pod.stop().await;
    });
}

fn large_output_arrives_whole() {
    let world = World::new();
    block_on(async {
        let mut pod = world.pod().await;
        // The process ends with pipes full: nothing of them may be lost.
        let (_, log) = pod.run("c1", "seq 1 300000").await;
        let expected: String = (1..=300_000).map(|number| format!("stdout F {number}\n")).collect();
        assert!(log == expected, "{} of {} bytes", log.len(), expected.len());
        pod.stop().await;
    });
}

fn a_log_that_cannot_be_written_hurts_nobody() {
    let world = World::new();
    block_on(async {
        let mut pod = world.pod().await;
        let mut config = pod.bundle("c1", &["/bin/sh", "-c", "seq 1 100000; exit 3"]);
        config.log_path = Some("/dev/full".into());
        pod.shim.start(&config).await.unwrap();
        assert_eq!(pod.exit("c1").await.code, 3);
        let mut config = pod.bundle("c2", &["/bin/sh", "-c", "seq 1 1000; exit 4"]);
        config.log_path = None;
        pod.shim.start(&config).await.unwrap();
        assert_eq!(pod.exit("c2").await.code, 4);
        pod.stop().await;
    });
}

fn logs_rotate() {
    let world = World::new();
    block_on(async {
        let mut pod = world.pod().await;
        let config = pod
            .sh(
                "c1",
                "trap 'echo second; exit' USR1; echo first; while :; do sleep 0.01; done",
            )
            .await;
        let log = config.log_path.unwrap();
        eventually("first", || {
            fs::read_to_string(&log).is_ok_and(|text| text.ends_with("first\n"))
        });
        let old = log.with_extension("old");
        fs::rename(&log, &old).unwrap();
        pod.shim.reopen_log("c1").await.unwrap();
        pod.shim.signal("c1", libc::SIGUSR1, false).await.unwrap();
        pod.exit("c1").await;
        assert_eq!(log_without_times(&old), "stdout F first\n");
        assert_eq!(log_without_times(&log), "stdout F second\n");
        pod.stop().await;
    });
}

fn input_flows_and_ends_once() {
    let world = World::new();
    block_on(async {
        let mut pod = world.pod().await;
        let mut config = pod.bundle("c1", &["/bin/sh", "-c", "wc -c; exit 2"]);
        (config.stdin, config.stdin_once) = (true, true);
        pod.shim.start(&config).await.unwrap();
        let (mut sender, reader) = pipe_in();
        pod.shim
            .attach(
                "c1",
                Stdio {
                    stdin: Some(reader),
                    ..Stdio::default()
                },
            )
            .await
            .unwrap();
        // More than any pipe holds.
        sender.write_all(&vec![b'x'; 1_000_000]).await.unwrap();
        drop(sender);
        assert_eq!(pod.exit("c1").await.code, 2);
        assert_eq!(
            log_without_times(config.log_path.as_deref().unwrap()),
            "stdout F 1000000\n"
        );

        // Without "once", input stays open when a client leaves.
        let mut config = pod.bundle("c2", &["/bin/sh", "-c", "read a; echo $a; read b; echo $b"]);
        config.stdin = true;
        pod.shim.start(&config).await.unwrap();
        for word in ["first\n", "second\n"] {
            let (mut sender, reader) = pipe_in();
            pod.shim
                .attach(
                    "c2",
                    Stdio {
                        stdin: Some(reader),
                        ..Stdio::default()
                    },
                )
                .await
                .unwrap();
            sender.write_all(word.as_bytes()).await.unwrap();
        }
        assert_eq!(pod.exit("c2").await.code, 0);
        let log = log_without_times(config.log_path.as_deref().unwrap());
        assert_eq!(log, "stdout F first\nstdout F second\n");
        pod.stop().await;
    });
}

fn output_fans_out() {
    let world = World::new();
    block_on(async {
        let mut pod = world.pod().await;
        let script = "read start; seq 1 50000; echo done >&2";
        let mut config = pod.bundle("c1", &["/bin/sh", "-c", script]);
        config.stdin = true;
        pod.shim.start(&config).await.unwrap();
        let mut readers = Vec::new();
        for _ in 0..3 {
            let (reader, writer) = pipe();
            let (errors, error_writer) = pipe();
            let stdio = Stdio {
                stdin: None,
                stdout: Some(writer),
                stderr: Some(error_writer),
            };
            pod.shim.attach("c1", stdio).await.unwrap();
            readers.push((reader, errors));
        }
        // One more that leaves at once.
        drop({
            let (reader, writer) = pipe();
            pod.shim.attach("c1", stdout_only(writer)).await.unwrap();
            reader
        });
        let (mut sender, reader) = pipe_in();
        pod.shim
            .attach(
                "c1",
                Stdio {
                    stdin: Some(reader),
                    ..Stdio::default()
                },
            )
            .await
            .unwrap();
        sender.write_all(b"go\n").await.unwrap();
        let expected: String = (1..=50_000).map(|number| format!("{number}\n")).collect();
        for (mut reader, mut errors) in readers {
            let (mut output, mut error) = (String::new(), String::new());
            let both = tokio::join!(reader.read_to_string(&mut output), errors.read_to_string(&mut error));
            assert!(both.0.is_ok() && both.1.is_ok());
            assert!(output == expected, "{} of {} bytes", output.len(), expected.len());
            assert_eq!(error, "done\n");
        }
        assert_eq!(pod.exit("c1").await.code, 0);
        assert!(pod.shim.attach("c1", Stdio::default()).await.is_err());
        pod.stop().await;
        world.assert_no_pods();
    });
}

fn a_reader_that_sleeps_is_dropped() {
    let world = World::new();
    block_on(async {
        let mut pod = world.pod().await;
        let mut config = pod.bundle("c1", &["/bin/sh", "-c", "read start; seq 1 2000000 | tail -c 8000000"]);
        config.stdin = true;
        config.log_path = None;
        pod.shim.start(&config).await.unwrap();
        let (mut sleeper, writer) = pipe();
        pod.shim.attach("c1", stdout_only(writer)).await.unwrap();
        let (mut sender, reader) = pipe_in();
        pod.shim
            .attach(
                "c1",
                Stdio {
                    stdin: Some(reader),
                    ..Stdio::default()
                },
            )
            .await
            .unwrap();
        sender.write_all(b"go\n").await.unwrap();
        // It ends although nobody reads.
        assert_eq!(pod.exit("c1").await.code, 0);
        let mut got = Vec::new();
        sleeper.read_to_end(&mut got).await.unwrap();
        assert!(!got.is_empty() && got.len() < 8_000_000);
        pod.stop().await;
    });
}

fn attached_clients_are_bounded() {
    let world = World::new();
    block_on(async {
        let pod = world.pod().await;
        pod.sh("c1", "sleep 1000").await;
        let mut held = Vec::new();
        let refused = loop {
            let (reader, writer) = pipe();
            match pod.shim.attach("c1", stdout_only(writer)).await {
                Ok(_) => held.push(reader),
                Err(error) => break error,
            }
            assert!(held.len() < 1000, "there is no bound");
        };
        assert!(refused.to_string().contains("attached already"), "{refused}");
        // One that goes makes room for another, and nobody else has noticed anything.
        held.pop();
        let (_reader, writer) = pipe();
        let mut attached = pod.shim.attach("c1", stdout_only(writer)).await;
        while attached.is_err() {
            tokio::task::yield_now().await;
            attached = pod.shim.attach("c1", stdout_only(pipe().1)).await;
        }
        pod.stop().await;
    });
}

fn terminals() {
    let world = World::new();
    block_on(async {
        let mut pod = world.pod().await;
        let mut config = pod.bundle(
            "c1",
            &["/bin/sh", "-c", "tty >/dev/null && echo tty; read x; stty size; exit 5"],
        );
        (config.terminal, config.stdin) = (true, true);
        pod.shim.start(&config).await.unwrap();
        pod.shim.resize("c1", 40, 120).await.unwrap();
        let (mut output, writer) = pipe();
        let (mut sender, reader) = pipe_in();
        let stdio = Stdio {
            stdin: Some(reader),
            stdout: Some(writer),
            stderr: None,
        };
        pod.shim.attach("c1", stdio).await.unwrap();
        sender.write_all(b"go\n").await.unwrap();
        let mut seen = String::new();
        output.read_to_string(&mut seen).await.unwrap();
        // What was typed is echoed, before or after the first line.
        assert!(seen.contains("go\r\n") && seen.ends_with("40 120\r\n"), "{seen:?}");
        assert_eq!(pod.exit("c1").await.code, 5);
        let log = log_without_times(config.log_path.as_deref().unwrap());
        assert!(
            log.contains("stdout F tty") && log.contains("stdout F 40 120"),
            "{log:?}"
        );
        pod.stop().await;
        world.assert_no_pods();
    });
}
