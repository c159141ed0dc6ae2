//! Ports of pods on the loopback of this machine: through our client, and through kubectl in both of its protocols.

mod common;

use common::{Cluster, Running, have, http_get, root, stdout, text};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::process::Command;

/// Answers every connection when its client has said everything, and only on the loopback.
const COUNT: &str = r#"$SIG{CHLD} = "IGNORE"; socket(S, 2, 1, 0); setsockopt(S, 1, 2, 1);
bind(S, pack("S n C4 x8", 2, 9000, 127, 0, 0, 1)) or die; listen(S, 50);
while (accept(C, S)) { if (fork) { close(C); next } my $n = 0; while (my $r = sysread(C, my $b, 65536)) { $n += $r }
  for (1 .. 20) { syswrite(C, "x" x 65536) } syswrite(C, "heard $n"); exit }"#;

/// Says something as long as anybody takes it, a byte at a time, to a client that has said everything or not.
const ENDLESS: &str = r#"$SIG{CHLD} = "IGNORE"; $SIG{PIPE} = "IGNORE"; socket(S, 2, 1, 0); setsockopt(S, 1, 2, 1);
bind(S, pack("S n C4 x8", 2, 9001, 127, 0, 0, 1)) or die; listen(S, 50);
while (accept(C, S)) { if (fork) { close(C); next } 1 while syswrite(C, "x"); exit }"#;

fn pods() -> String {
    let [count, endless] = [COUNT, ENDLESS].map(|script| script.replace('\n', " ").replace('\'', "''"));
    format!(
        r"
apiVersion: v1
kind: Pod
metadata: {{name: hello, labels: {{app: hello}}}}
spec:
  containers:
  - {{name: web, image: 'host/hello:v1', ports: [{{name: http, containerPort: 8080}}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: count}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {{name: count, image: 'host/perl:v1', command: [perl, '-e', '{count}']}}
  - {{name: endless, image: 'host/perl:v1', command: [perl, '-e', '{endless}']}}
---
apiVersion: v1
kind: Service
metadata: {{name: hello}}
spec: {{selector: {{app: hello}}, ports: [{{port: 80, targetPort: http}}]}}
"
    )
}

fn cluster() -> Option<Cluster> {
    if !root() || !have("perl") {
        return None;
    }
    let cluster = Cluster::start(&[])?;
    cluster.pack_images();
    let perl = ["/usr/bin/perl", "/bin/perl"]
        .iter()
        .find(|path| Path::new(path).exists());
    let mut pack = cluster.cata(&["image", "pack", "--tag", "host/perl:v1", "--from-host"]);
    stdout(pack.arg(perl.expect("perl is one of the machine's")));
    cluster.apply(&pods());
    cluster.wait_for("pod/hello", "condition=Ready");
    cluster.wait_for("pod/count", "condition=Ready");
    Some(cluster)
}

/// The clients, each with the words after `port-forward`.
fn clients(cluster: &Cluster, words: &[&str]) -> Vec<(&'static str, Command)> {
    let words = [&["port-forward"], words].concat();
    let mut clients = vec![("cata", cluster.cata(&words))];
    if have("kubectl") {
        clients.push(("kubectl", cluster.kubectl(&words)));
        let mut spdy = cluster.kubectl(&words);
        spdy.env("KUBECTL_PORT_FORWARD_WEBSOCKETS", "false");
        clients.push(("kubectl over SPDY", spdy));
    }
    clients
}

/// Starts one, and the local port it chose.
fn forward(command: &mut Command) -> (Running, u16) {
    let mut running = Running::start(command);
    let line = running.line("Forwarding from 127.0.0.1:");
    let port = line.split([':', ' ']).find_map(|word| word.parse().ok());
    (running, port.expect("a port"))
}

fn ask(port: u16, bytes: usize) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connect");
    let mut half = stream.try_clone().expect("clone");
    let saying = std::thread::spawn(move || {
        half.write_all(&vec![b'q'; bytes]).expect("write");
        half.shutdown(Shutdown::Write).expect("shut");
    });
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("read");
    saying.join().expect("said");
    answer
}

/// Goes away while it is told something, having said everything itself.
fn leave(port: u16) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connect");
    stream.shutdown(Shutdown::Write).expect("shut");
    stream.read_exact(&mut vec![0; 100_000]).expect("read");
}

#[test]
fn connections_reach_wasm_and_linux_pods_and_close_half_by_half() {
    let Some(mut cluster) = cluster() else { return };
    for (name, mut client) in clients(&cluster, &["pod/hello", ":8080"]) {
        let (mut running, port) = forward(&mut client);
        let answers: Vec<_> = (0..24)
            .map(|_| std::thread::spawn(move || http_get("127.0.0.1", port, "/").expect("an answer")))
            .collect();
        for answer in answers {
            let answer = answer.join().expect("a thread");
            assert!(answer.starts_with("HTTP/1.1 200"), "{name}: {answer}");
        }
        running.line("Handling connection for");
    }
    for (name, mut client) in clients(&cluster, &["count", ":9000", ":9001"]) {
        let (mut running, port) = forward(&mut client);
        let endless = running.line("-> 9001");
        let endless = endless.split([':', ' ']).find_map(|word| word.parse().ok());
        for _ in 0..4 {
            leave(endless.expect("a port"));
        }
        let asking: Vec<_> = [0, 1, 3_000_000]
            .map(|bytes| std::thread::spawn(move || (bytes, ask(port, bytes))))
            .into();
        for asked in asking {
            let (bytes, answer) = asked.join().expect("a thread");
            let tail = text(&answer[answer.len().saturating_sub(20)..]);
            assert!(tail.ends_with(&format!("heard {bytes}")), "{name}: …{tail}");
            assert_eq!(answer.len(), 20 * 65536 + format!("heard {bytes}").len(), "{name}");
        }
    }
    cluster.stop();
}

#[test]
fn services_names_and_what_does_not_listen() {
    let Some(mut cluster) = cluster() else { return };
    for (name, mut client) in clients(&cluster, &["service/hello", ":80"]) {
        let (_running, port) = forward(&mut client);
        let answer = http_get("127.0.0.1", port, "/").expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200"), "{name}: {answer}");
    }
    for (name, mut client) in clients(&cluster, &["pod/hello", ":http", ":81"]) {
        let mut running = Running::start(&mut client);
        let port = |line: String| -> u16 {
            line.split([':', ' '])
                .find_map(|word| word.parse().ok())
                .expect("a port")
        };
        let (good, bad) = (
            port(running.line("Forwarding from 127.0.0.1:")),
            port(running.line("-> 81")),
        );
        assert!(
            http_get("127.0.0.1", good, "/")
                .expect("an answer")
                .starts_with("HTTP/1.1 200"),
            "{name}"
        );
        assert_eq!(ask(bad, 1), b"", "{name}");
        let line = running.line("an error occurred");
        assert!(
            line.contains("failed to connect to localhost:81 inside namespace")
                && line.contains("IPv4: dial tcp4 127.0.0.1:81: connect: connection refused"),
            "{name}: {line}"
        );
    }
    // The pod ends, and with it what leads to it.
    for (name, mut client) in clients(&cluster, &["nobody", ":80"]) {
        let output = client.output().expect("starts");
        assert!(
            !output.status.success() && text(&output.stderr).contains("not found"),
            "{name}"
        );
    }
    cluster.stop();
}
