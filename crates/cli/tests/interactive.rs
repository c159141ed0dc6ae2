//! Terminals and attached streams, through our client and through kubectl.

mod common;

use common::{Cluster, PATIENCE, have, stdout, text, until};
use rustix::termios::Winsize;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Instant;

/// A program on a terminal of ours.
struct OnTerminal {
    child: Child,
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    seen: String,
}

impl OnTerminal {
    fn start(command: &mut Command) -> Self {
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("pty");
        grantpt(&master).expect("grant");
        unlockpt(&master).expect("unlock");
        let name = ptsname(&master, Vec::new()).expect("name");
        let side = || -> OwnedFd {
            let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY;
            rustix::fs::open(&name, flags, rustix::fs::Mode::empty()).expect("terminal")
        };
        let size = Winsize {
            ws_row: 31,
            ws_col: 97,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(&master, size).expect("size");
        let child = command
            .stdin(side())
            .stdout(side())
            .stderr(side())
            .spawn()
            .expect("starts");
        // The command keeps copies of the terminal; only the child may hold it open.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let keyboard = File::from(master);
        let mut reader = keyboard.try_clone().expect("clone");
        let (sender, screen) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = reader.read(&mut buffer) {
                if sender.send(buffer[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            keyboard,
            screen,
            seen: String::new(),
        }
    }

    fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("type");
    }

    #[track_caller]
    fn see(&mut self, words: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.seen.contains(words) {
            match self
                .screen
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(bytes) => self.seen.push_str(&text(&bytes)),
                Err(RecvTimeoutError::Timeout) => panic!("{words:?} never appeared in {:?}", self.seen),
                Err(RecvTimeoutError::Disconnected) => panic!("ended without {words:?}: {:?}", self.seen),
            }
        }
    }

    fn end(mut self) -> ExitStatus {
        until("the program to end", || self.child.try_wait().expect("wait"))
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const PODS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: talk}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: sleep, image: host/tools:v1, command: [sleep, "1000"]}
  - {name: echo, image: host/tools:v1, stdin: true, command: [cat]}
"#;

#[test]
fn terminals_streams_and_exit_codes() {
    let Some(mut cluster) = Cluster::start(&[]) else { return };
    cluster.pack_images();
    cluster.apply(PODS);
    cluster.wait_for("pod/talk", "condition=Ready");

    let words = ["exec", "-it", "talk", "-c", "sleep", "--", "bash", "--norc"];
    let mut clients = vec![cluster.cata(&words)];
    if have("kubectl") {
        clients.push(cluster.kubectl(&words));
        // What kubectl spoke before WebSocket, and what older clients still do.
        let mut spdy = cluster.kubectl(&words);
        spdy.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "false");
        clients.push(spdy);
    }
    for mut client in clients {
        let mut shell = OnTerminal::start(&mut client);
        // The size travels beside the keys, and may come after them.
        shell.press("until [[ $(stty size) == '31 97' ]]; do sleep 0.05; done; echo si''zed; echo $((6*7))-$0\n");
        shell.see("sized");
        shell.see("42-bash");
        // What is typed is echoed; only the shell itself joins the two halves. It is said by who has the terminal then.
        shell.press("bash -c \"echo as''leep; exec sleep 1000\"\n");
        shell.see("asleep");
        shell.press("\x03");
        shell.see("^C\r\nbash");
        shell.press("echo after-$?\n");
        shell.see("after-130");
        shell.press("exit 5\n");
        assert_eq!(shell.end().code(), Some(5), "{client:?}");
    }

    let mut attached = cluster
        .cata(&["attach", "-i", "talk", "-c", "echo"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("cata");
    let mut input = attached.stdin.take().expect("stdin");
    let mut output = attached.stdout.take().expect("stdout");
    input.write_all(b"ahoy\n").expect("write");
    let mut line = [0; 5];
    output.read_exact(&mut line).expect("read");
    assert_eq!(&line, b"ahoy\n");
    attached.kill().expect("kill");
    attached.wait().expect("wait");
    if have("kubectl") {
        let script = "cat; echo low >&2; exit 7";
        let mut piped = cluster
            .kubectl(&["exec", "-i", "talk", "-c", "sleep", "--", "bash", "-c", script])
            .env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "false")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kubectl");
        let mut input = piped.stdin.take().expect("stdin");
        let much = vec![b'z'; 1_000_000];
        let saying = std::thread::spawn(move || input.write_all(&much).expect("write"));
        let output = piped.wait_with_output().expect("output");
        saying.join().expect("said");
        assert_eq!((output.stdout.len(), output.status.code()), (1_000_000, Some(7)));
        assert!(text(&output.stderr).starts_with("low\n"), "{}", text(&output.stderr));
    }
    until("the log to have it too", || {
        (stdout(&mut cluster.cata(&["logs", "talk", "-c", "echo"])) == "ahoy\n").then_some(())
    });
    cluster.stop();
}

#[test]
fn pods_run_by_hand_give_their_exit_code() {
    let Some(mut cluster) = Cluster::start(&[]) else { return };
    cluster.pack_images();
    let run = |flags: &[&str], script: &str, input: &[u8]| {
        let image = [
            "run",
            "x",
            "--image",
            "host/tools:v1",
            "--rm",
            "--restart=Never",
            "--command",
        ];
        let mut child = cluster
            .cata(&image)
            .args(flags)
            .args(["--", "bash", "-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("cata");
        let mut keyboard = child.stdin.take().expect("stdin");
        keyboard.write_all(input).expect("write");
        drop(keyboard);
        let output = child.wait_with_output().expect("output");
        // The next one has the same name.
        stdout(&mut cluster.cata(&["wait", "pod/x", "--for=delete", "--timeout=60s"]));
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, said, _) = run(
        &["-i"],
        "while read -r line; do echo got $line; done; exit 5",
        b"a\nb\n",
    );
    assert_eq!((code, said.as_str()), (Some(5), "got a\ngot b\n"));
    // Over before anybody can attach.
    let (code, said, errors) = run(&["--attach", "--quiet"], "echo quick; exit 4", b"");
    assert_eq!((code, said.as_str(), errors.as_str()), (Some(4), "quick\n", ""));
    let mut never = cluster.cata(&["run", "x", "--image", "host/tools:v1", "--rm", "-i", "--restart=Never"]);
    let output = never
        .args(["--command", "--", "no-such-program"])
        .output()
        .expect("cata");
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(127), "{errors}");
    assert!(
        errors.contains("\"no-such-program\": executable file not found"),
        "{errors}"
    );
    cluster.stop();
}
