//! `wasi:http` services.

use crate::harness::Test;
use crate::world::{PROBE, SERVICE_P3, World};
use rustix::process::Signal;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

pub(crate) const TESTS: &[Test] = &[
    (
        "services::a_busy_request_does_not_hold_up_others",
        a_busy_request_does_not_hold_up_others,
    ),
    ("services::a_large_response_is_streamed", a_large_response_is_streamed),
    ("services::a_request_that_traps_is_a_500", a_request_that_traps_is_a_500),
    (
        "services::files_and_host_names_are_the_containers",
        files_and_host_names_are_the_containers,
    ),
    (
        "services::instances_share_the_memory_limit",
        instances_share_the_memory_limit,
    ),
    ("services::a_request_body_is_read", a_request_body_is_read),
    (
        "services::a_service_too_large_for_its_limit_does_not_start",
        a_service_too_large_for_its_limit_does_not_start,
    ),
    ("services::a_taken_port_is_said", a_taken_port_is_said),
    ("services::connections_are_kept_alive", connections_are_kept_alive),
    ("services::hello_answers_and_logs", hello_answers_and_logs),
    ("services::http2_without_tls_works", http2_without_tls_works),
    ("services::services_of_wasi_0_3_work", services_of_wasi_0_3_work),
    (
        "services::many_requests_at_once_are_answered",
        many_requests_at_once_are_answered,
    ),
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
    request(
        port,
        &format!("GET {path} HTTP/1.1\r\nHost: hello\r\nConnection: close\r\n\r\n"),
    )
}

fn hello_answers_and_logs() {
    let mut world = World::hello(8081);
    world.spec.env = vec!["GREETING=Ahoy!".to_owned(), "HOSTNAME=web-0".to_owned()];
    let mut running = world.start().expect("started");
    let response = get(8081, "/some/path");
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    assert!(
        response.contains("Ahoy!\nhost web-0, path /some/path, request "),
        "{response}"
    );
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
        assert!(
            response.starts_with(b"HTTP/1.1 200"),
            "{}",
            String::from_utf8_lossy(&response)
        );
    }
}

fn http2_without_tls_works() {
    let mut world = World::hello(8084);
    let _running = world.start().expect("started");
    let mut stream = TcpStream::connect(("127.0.0.1", 8084)).expect("it listens");
    // The preface and empty settings (RFC 9113, 3.4); a server answers with its own settings, frame type 4.
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .expect("sent");
    let mut frame = [0; 9];
    stream.read_exact(&mut frame).expect("answered");
    assert_eq!(frame[3], 4, "{frame:?}");
}

fn many_requests_at_once_are_answered() {
    let mut world = World::hello(8085);
    let running = world.start().expect("started");
    // All connections are open before the first request is sent.
    let mut streams: Vec<_> = (0..40)
        .map(|_| TcpStream::connect(("127.0.0.1", 8085)).expect("it listens"))
        .collect();
    for stream in &mut streams {
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: hello\r\nConnection: close\r\n\r\n")
            .expect("sent");
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
    assert!(
        error.message.starts_with("port 8087 is already in use in this pod"),
        "{error:?}"
    );
}

fn probe(port: u16) -> World {
    World::service(PROBE, port)
}

fn a_request_that_traps_is_a_500() {
    let mut world = probe(8090);
    let running = world.start().expect("started");
    for path in ["/trap", "/silent"] {
        let response = get(8090, path);
        assert!(
            response.starts_with("HTTP/1.1 500 Internal Server Error\r\n"),
            "{response}"
        );
        assert!(
            response.ends_with("500 Internal Server Error\n"),
            "nothing of the inside is shown: {response}"
        );
    }
    assert!(
        get(8090, "/").ends_with("ok\n\r\n0\r\n\r\n"),
        "other requests are not affected"
    );
    running.signal(Signal::TERM);
    let finished = running.finish();
    assert!(
        finished
            .stderr
            .contains("catamaran: GET /trap: 500: the program trapped: wasm `unreachable`"),
        "{finished:?}"
    );
    assert!(
        finished
            .stderr
            .contains("catamaran: GET /silent: 500: the component returned without"),
        "{finished:?}"
    );
}

fn a_busy_request_does_not_hold_up_others() {
    let mut world = probe(8091);
    let running = world.start().expect("started");
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let busy: Vec<_> = (0..cpus + 1)
        .map(|_| {
            let mut stream = TcpStream::connect(("127.0.0.1", 8091)).expect("it listens");
            stream
                .write_all(b"GET /spin HTTP/1.1\r\nHost: probe\r\n\r\n")
                .expect("sent");
            stream
        })
        .collect();
    for _ in 0..5 {
        assert!(get(8091, "/").starts_with("HTTP/1.1 200 OK"));
    }
    drop(busy);
    // Nobody waits for them any more: they end, and with them the only thing that keeps the service from ending.
    running.signal(Signal::TERM);
    assert_eq!(running.finish().code, Some(0));
}

fn a_large_response_is_streamed() {
    let mut world = probe(8092);
    let _running = world.start().expect("started");
    let response = get(8092, "/stream?3000");
    assert_eq!(response.matches('x').count(), 3000 * 1024);
}

fn instances_share_the_memory_limit() {
    let mut world = probe(8093);
    world.spec.memory_limit = Some(20 << 20);
    let running = world.start().expect("started");
    assert!(get(8093, "/memory?8").contains("8388608"));
    assert!(get(8093, "/memory?64").starts_with("HTTP/1.1 500"));
    assert!(
        get(8093, "/memory?8").contains("8388608"),
        "what ended has given its memory back"
    );
    running.signal(Signal::TERM);
    assert!(
        running
            .finish()
            .stderr
            .contains("catamaran: memory limit exceeded: the program asked for 64")
    );
}

fn files_and_host_names_are_the_containers() {
    let mut world = probe(8094);
    let volume = world.volume("/data", true);
    std::fs::write(volume.join("note"), "from the volume").expect("written");
    let hosts = world.dir.path().join("hosts");
    std::fs::write(&hosts, "127.0.0.1 localhost\n127.0.0.1 neighbour.test\n").expect("written");
    world.spec.preopens.push(catamaran_shim::spec::Preopen {
        host_path: hosts,
        guest_path: "/etc/hosts".to_owned(),
        read_only: true,
    });
    let mut other = World::hello(8095);
    let _other = other.start().expect("started");
    let _running = world.start().expect("started");
    assert!(get(8094, "/file?note").contains("from the volume"));
    let response = get(8094, "/file?../etc/hosts");
    assert!(
        response.contains("not-permitted"),
        "a directory cannot be left: {response}"
    );
    let response = get(8094, "/fetch?neighbour.test:8095/from-probe");
    assert!(response.contains("200 Hello from a wasm component!"), "{response}");
    let response = get(8094, "/fetch?127.0.0.1:9/");
    assert!(response.contains("ConnectionRefused"), "{response}");
}

fn a_service_too_large_for_its_limit_does_not_start() {
    let mut world = World::hello(8096);
    world.spec.memory_limit = Some(1 << 20);
    let error = world.start().map(|_| ()).expect_err("refused");
    assert!(
        error
            .message
            .contains("memory limit exceeded: the program asked for 1.1Mi"),
        "{error:?}"
    );
}

fn services_of_wasi_0_3_work() {
    let mut world = World::service(SERVICE_P3, 8097);
    let running = world.start().expect("started");
    for path in ["/one", "/two"] {
        let response = get(8097, path);
        assert!(response.starts_with("HTTP/1.1 200 OK"), "{response}");
        assert!(
            response.contains(&format!("Hello from WASI 0.3, path {path}\n")),
            "{response}"
        );
    }
    assert!(get(8097, "/trap").starts_with("HTTP/1.1 500"));
    running.signal(Signal::TERM);
    let finished = running.finish();
    assert_eq!(finished.code, Some(0));
    assert!(
        finished
            .stderr
            .contains("catamaran: GET /trap: 500: the program trapped: "),
        "{finished:?}"
    );
}
