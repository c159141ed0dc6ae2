//! How long it takes to start a wasm container, and what it keeps to itself.
//!
//! ```text
//! sudo target/release/examples/start-latency examples/hello/hello.wasm [runs]
//! ```
//!
//! Forks as a pod shim does and prints one line per metric; a service is also asked a thousand times over one connection
//! (it listens on port 8080). For orientation while working on this crate; the budgets are measured by `xtask bench`.

use catamaran_shim::runtime::{Runtime as _, SharedWith, StartRequest, Stdio};
use catamaran_shim::spec::WasmSpec;
use catamaran_wasm_shim::{NativeCache, WasmRuntime};
use rustix::process::{Pid, Signal, WaitOptions};
use sha2::{Digest as _, Sha256};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const PORT: u16 = 8080;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("__wasm-compile") => {
            catamaran_wasm_shim::compile_main();
        }
        Some("__native") => print!(
            "{}",
            compile(Path::new(&arguments[2]), Path::new(&arguments[3])).display()
        ),
        Some(module) => measure(
            Path::new(module),
            arguments.get(2).map_or(50, |runs| runs.parse().expect("a number")),
        ),
        None => eprintln!("usage: start-latency FILE.wasm [RUNS]"),
    }
}

fn compile(dir: &Path, module: &Path) -> PathBuf {
    let command = vec![
        std::env::current_exe().expect("own path").into(),
        "__wasm-compile".into(),
    ];
    let cache = NativeCache::open(dir.join("cache"), command).expect("the cache opens");
    let digest = format!(
        "{:x?}",
        Sha256::digest(std::fs::read(module).expect("the module exists"))
    );
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime
        .block_on(cache.native(&digest, module))
        .expect("it compiles")
        .path
}

fn measure(module: &Path, runs: usize) {
    let dir = tempfile::Builder::new()
        .prefix("start-latency")
        .tempdir_in("/dev/shm")
        .expect("a directory");
    let output = std::process::Command::new(std::env::current_exe().expect("own path"))
        .args(["__native".as_ref(), dir.path(), module])
        .output()
        .expect("the compiler runs");
    let native = PathBuf::from(String::from_utf8(output.stdout).expect("text"));
    let begin = Instant::now();
    let mut runtime = WasmRuntime::new();
    println!("engines {:?}", begin.elapsed());
    let spec = spec(module, native);
    std::fs::write(dir.path().join("wasm.json"), serde_json::to_vec(&spec).expect("a spec")).expect("written");
    let mut times = Vec::new();
    for run in 0..runs {
        let begin = Instant::now();
        let request = StartRequest {
            id: "c",
            bundle: dir.path(),
            stdio: Stdio::default(),
            terminal: false,
            shared: SharedWith::default(),
        };
        let started = runtime.start(request).expect("it starts");
        times.push(begin.elapsed());
        if run == 0 {
            print_memory(started.pid);
            if spec.native.to_string_lossy().ends_with(".http.native") {
                ask();
                print_memory(started.pid);
            }
        }
        let _ = rustix::process::pidfd_send_signal(&started.pidfd, Signal::KILL);
        let _ = rustix::process::waitpid(Pid::from_raw(started.pid), WaitOptions::empty());
        runtime.cleanup("c", dir.path());
    }
    times.sort();
    let at = |share: usize| times[(times.len() - 1) * share / 100];
    println!("start p50 {:?} p99 {:?} of {runs}", at(50), at(99));
    assert!(at(0) > Duration::ZERO);
}

/// Requests one after the other, each with an instance of its own.
fn ask() {
    const REQUESTS: usize = 1000;
    let mut stream = TcpStream::connect(("127.0.0.1", PORT)).expect("it listens");
    stream.set_nodelay(true).expect("set");
    let mut times = Vec::with_capacity(REQUESTS);
    let mut response = Vec::new();
    for _ in 0..REQUESTS {
        let begin = Instant::now();
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: hello\r\n\r\n")
            .expect("sent");
        response.clear();
        // The end of a chunked body.
        while !response.ends_with(b"0\r\n\r\n") {
            let mut buffer = [0; 4096];
            let read = stream.read(&mut buffer).expect("answered");
            assert!(read > 0, "the service ended");
            response.extend_from_slice(&buffer[..read]);
        }
        times.push(begin.elapsed());
    }
    times.sort();
    println!(
        "request p50 {:?} p99 {:?} of {REQUESTS}",
        times[REQUESTS / 2],
        times[REQUESTS * 99 / 100]
    );
}

fn print_memory(pid: i32) {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("it runs");
    for line in rollup
        .lines()
        .filter(|line| line.starts_with("Private_Dirty") || line.starts_with("Pss:"))
    {
        println!("{line}");
    }
}

fn spec(module: &Path, native: PathBuf) -> WasmSpec {
    WasmSpec {
        module: module.to_owned(),
        native,
        args: vec!["guest".to_owned()],
        env: Vec::new(),
        lower_dirs: Vec::new(),
        writable_layer: None,
        preopens: Vec::new(),
        cgroup: format!("/catamaran-latency-{}", std::process::id()),
        resources: serde_json::from_str(r#"{"memory":{"limit":268435456}}"#).expect("valid"),
        memory_limit: None,
        uid: 65_532,
        gid: 65_532,
        supplemental_gids: Vec::new(),
        http_port: PORT,
        seccomp: true,
        container_name: "latency".to_owned(),
    }
}
