//! `wasi:http` services.

use crate::harness::Test;
use crate::world::World;
use rustix::process::Signal;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

pub(crate) const TESTS: &[Test] = &[
    ("services::a_request_body_is_read", a_request_body_is_read),
    ("services::a_taken_port_is_said", a_taken_port_is_said),
    ("services::connections_are_kept_alive", connections_are_kept_alive),
    ("services::hello_answers_and_logs", hello_answers_and_logs),
    ("services::http2_without_tls_works", http2_without_tls_works),
    ("services::many_requests_at_once_are_answered", many_requests_at_once_are_answered),
    ("services::sigterm_ends_it_with_zero", sigterm_ends_it_with_zero),
];

fn request(port: u16, text: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    stream.write_all(text.as_bytes()).expect("sent");
    let mut response = String::new();
    stream.read_to_string(&mut response).expect("answered");
    response
}

fn get(port: u16, path: &str) -> String {
    request(port, &format!("GET {path} HTTP/1.1\r\nHost: hello\r\nConnection: close\r\n\r\n"))
}

fn hello_answers_and_logs() {
    let mut world = World::hello(8081);
    world.spec.env = vec!["GREETING=Ahoy!".to_owned(), "HOSTNAME=web-0".to_owned()];
    let mut running = world.start().expect("started");
    let response = get(8081, "/some/path");
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    assert!(response.contains("Ahoy!\nhost web-0, path /some/path, request "), "{response}");
    assert!(running.line().starts_with("GET /some/path 200 request="));
    assert_eq!(running.status("Threads"), "1", "one request at a time needs one thread");
}

fn a_request_body_is_read() {
    let mut world = World::hello(8082);
    let _running = world.start().expect("started");
    let body = "x".repeat(200_000);
    let head = "POST / HTTP/1.1\r\nHost: hello\r\nConnection: close\r\nContent-Length: 200000\r\n\r\n";
    let response = request(8082, &format!("{head}{body}"));
    assert!(response.contains("received 200000 bytes"), "{response}");
}

fn connections_are_kept_alive() {
    let mut world = World::hello(8083);
    let _running = world.start().expect("started");
    let mut stream = TcpStream::connect(("127.0.0.1", 8083)).expect("it listens");
    for number in 0..3 {
        write!(stream, "HEAD /{number} HTTP/1.1\r\nHost: hello\r\n\r\n").expect("sent");
        let mut response = Vec::new();
        let mut byte = [0];
        while !response.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).expect("answered");
            response.push(byte[0]);
        }
        assert!(response.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&response));
    }
}

fn http2_without_tls_works() {
    let mut world = World::hello(8084);
    let _running = world.start().expect("started");
    let mut stream = TcpStream::connect(("127.0.0.1", 8084)).expect("it listens");
    // The preface and empty settings (RFC 9113, 3.4); a server answers with its own settings, frame type 4.
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").expect("sent");
    let mut frame = [0; 9];
    stream.read_exact(&mut frame).expect("answered");
    assert_eq!(frame[3], 4, "{frame:?}");
}

fn many_requests_at_once_are_answered() {
    let mut world = World::hello(8085);
    let running = world.start().expect("started");
    // All connections are open before the first request is sent.
    let mut streams: Vec<_> =
        (0..40).map(|_| TcpStream::connect(("127.0.0.1", 8085)).expect("it listens")).collect();
    for stream in &mut streams {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: hello\r\nConnection: close\r\n\r\n").expect("sent");
    }
    for mut stream in streams {
        let mut response = String::new();
        stream.read_to_string(&mut response).expect("answered");
        assert!(response.starts_with("HTTP/1.1 200"), "{response}");
    }
    let threads: usize = running.status("Threads").parse().expect("a number");
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    assert!(threads <= cpus, "{threads} threads on {cpus} CPUs");
}

fn sigterm_ends_it_with_zero() {
    let mut world = World::hello(8086);
    let running = world.start().expect("started");
    assert!(get(8086, "/").contains("Hello from a wasm component!"));
    running.signal(Signal::TERM);
    let finished = running.finish();
    assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), ""), "{finished:?}");
    assert!(TcpStream::connect(("127.0.0.1", 8086)).is_err());
}

fn a_taken_port_is_said() {
    let _taken = std::net::TcpListener::bind("[::]:8087").expect("free");
    let error = World::hello(8087).start().map(|_| ()).expect_err("refused");
    assert!(error.message.starts_with("port 8087 is already in use in this pod"), "{error:?}");
}
