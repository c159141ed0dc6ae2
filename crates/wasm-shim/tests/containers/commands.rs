//! Programs: preview-1 modules and command components.

use crate::harness::Test;
use crate::world::{World, guest, input, scratch};
use rustix::process::Signal;
use std::fs;
use std::io::Read as _;

pub(crate) const TESTS: &[Test] = &[
    ("commands::a_component_runs", a_component_runs),
    (
        "commands::a_module_without_start_is_explained",
        a_module_without_start_is_explained,
    ),
    (
        "commands::a_program_larger_than_its_limit_does_not_start",
        a_program_larger_than_its_limit_does_not_start,
    ),
    (
        "commands::a_read_only_volume_cannot_be_written",
        a_read_only_volume_cannot_be_written,
    ),
    (
        "commands::a_single_file_is_seen_through_the_root",
        a_single_file_is_seen_through_the_root,
    ),
    ("commands::a_terminal_is_a_terminal", a_terminal_is_a_terminal),
    (
        "commands::a_trap_is_134_with_a_backtrace",
        a_trap_is_134_with_a_backtrace,
    ),
    ("commands::a_volume_can_be_written", a_volume_can_be_written),
    (
        "commands::an_image_root_has_a_writable_layer",
        an_image_root_has_a_writable_layer,
    ),
    (
        "commands::arguments_environment_and_input_arrive",
        arguments_environment_and_input_arrive,
    ),
    ("commands::exit_codes_are_the_programs", exit_codes_are_the_programs),
    (
        "commands::foreign_native_code_is_refused",
        foreign_native_code_is_refused,
    ),
    (
        "commands::memory_over_the_limit_is_refused_and_said",
        memory_over_the_limit_is_refused_and_said,
    ),
    (
        "commands::nothing_is_left_of_a_failed_start",
        nothing_is_left_of_a_failed_start,
    ),
    ("commands::sigterm_ends_a_program", sigterm_ends_a_program),
    ("commands::the_process_has_no_privilege", the_process_has_no_privilege),
    ("commands::the_runtime_starts_no_thread", the_runtime_starts_no_thread),
    ("commands::unknown_imports_are_named", unknown_imports_are_named),
];

fn exit_codes_are_the_programs() {
    let finished = World::of_guest("exit").run();
    assert_eq!(finished.code, Some(7), "{finished:?}");
    let finished = World::of_text(r#"(module (memory (export "memory") 1) (func (export "_start")))"#).run();
    assert_eq!(finished.code, Some(0), "{finished:?}");
}

fn a_trap_is_134_with_a_backtrace() {
    let finished = World::of_guest("trap").run();
    assert_eq!(
        (finished.code, finished.stdout.as_str()),
        (Some(134), "before\n"),
        "{finished:?}"
    );
    let mut lines = finished.stderr.lines();
    assert_eq!(
        lines.next(),
        Some("catamaran: the program trapped: wasm `unreachable` instruction executed")
    );
    assert!(
        finished.stderr.contains("trap!inner") && finished.stderr.contains("trap!outer"),
        "{finished:?}"
    );
}

fn arguments_environment_and_input_arrive() {
    let mut world = World::of_guest("echo");
    world.spec.args = vec!["guest".to_owned(), "--flag".to_owned(), "a b".to_owned()];
    world.spec.env = vec!["GREETING=hello=there".to_owned(), "EMPTY=".to_owned()];
    let finished = world
        .start_with_input(Some(input("typed\n")))
        .expect("started")
        .finish();
    assert_eq!(
        finished.stdout, "guest\n--flag\na b\nGREETING=hello=there\nEMPTY=\ntyped\n",
        "{finished:?}"
    );
    assert_eq!(finished.code, Some(0));
}

fn a_volume_can_be_written() {
    let mut world = World::of_guest("files");
    let volume = world.volume("/data", false);
    fs::write(volume.join("in"), "contents").expect("written");
    let finished = world.run();
    assert_eq!(
        (finished.code, finished.stdout.as_str()),
        (Some(0), "contents"),
        "{finished:?}"
    );
    assert_eq!(fs::read_to_string(volume.join("out")).expect("made"), "out");
    let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(volume.join("out")).expect("made"));
    assert_eq!(owner, world.spec.uid, "files belong to the container's user");
}

fn a_read_only_volume_cannot_be_written() {
    let mut world = World::of_guest("files");
    let volume = world.volume("/data", true);
    fs::write(volume.join("in"), "contents").expect("written");
    let finished = world.run();
    assert_eq!(finished.stdout, "contents", "{finished:?}");
    assert!(
        matches!(finished.code, Some(63 | 69 | 76)),
        "read-only or not permitted: {finished:?}"
    );
    assert!(!volume.join("out").exists());
}

fn a_single_file_is_seen_through_the_root() {
    let mut world = World::of_guest("files");
    let file = world.dir.path().join("token");
    fs::write(&file, "secret").expect("written");
    world.spec.preopens.push(catamaran_shim::spec::Preopen {
        host_path: file,
        guest_path: "/in".to_owned(),
        read_only: true,
    });
    let finished = world.run();
    assert_eq!(finished.stdout, "secret", "{finished:?}");
    assert!(
        matches!(finished.code, Some(63 | 69 | 76)),
        "the root of an artifact is read-only: {finished:?}"
    );
}

fn an_image_root_has_a_writable_layer() {
    let mut world = World::of_guest("files");
    let lower = world.dir.path().join("lower");
    fs::create_dir(&lower).expect("made");
    fs::write(lower.join("in"), "from the image").expect("written");
    let layer = world.dir.path().join("layer");
    world.spec.lower_dirs = vec![lower.clone()];
    world.spec.writable_layer = Some(layer.clone());
    world.spec.uid = 0;
    let finished = world.run();
    assert_eq!(
        (finished.code, finished.stdout.as_str()),
        (Some(0), "from the image"),
        "{finished:?}"
    );
    assert!(layer.join("upper/out").exists() && !lower.join("out").exists());
    world.spec.writable_layer = None;
    let finished = world.run();
    assert!(
        matches!(finished.code, Some(63 | 69 | 76)),
        "without a layer it is read-only: {finished:?}"
    );
}

fn a_component_runs() {
    let finished = World::of_guest("command-component").run();
    assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), ""), "{finished:?}");
}

fn memory_over_the_limit_is_refused_and_said() {
    let mut world = World::of_guest("grow");
    world.spec.memory_limit = Some(5 << 20);
    let finished = world.run();
    assert_eq!(finished.code, Some(5), "{finished:?}");
    assert_eq!(
        finished.stderr,
        "catamaran: memory limit exceeded: the program asked for 1Mi in addition to 5Mi, the container's limit is 5Mi\n"
    );
    world.spec.memory_limit = None;
    assert_eq!(world.run().code, Some(100));
}

fn a_program_larger_than_its_limit_does_not_start() {
    let mut world = World::of_text(r#"(module (memory (export "memory") 64) (func (export "_start")))"#);
    world.spec.memory_limit = Some(1 << 20);
    let error = world.start().map(|_| ()).expect_err("refused");
    assert!(
        error.message.starts_with("cannot instantiate the program: memory"),
        "{error:?}"
    );
    assert_eq!(error.exit_code, 126);
}

fn unknown_imports_are_named() {
    let error = World::of_guest("foreign-import")
        .start()
        .map(|_| ())
        .expect_err("refused");
    assert!(
        error
            .message
            .contains("imports `env::foo`, which Catamaran does not provide"),
        "{error:?}"
    );
    assert_eq!((error.exit_code, error.reason.as_str()), (126, "RunContainerError"));
    let component = r#"(component (import "acme:shop/cart@1.0.0" (instance (export "add" (func))))
        (component $c) (instance $i (instantiate $c)) (export "wasi:cli/run@0.2.0" (instance $i)))"#;
    let error = World::of_text(component).start().map(|_| ()).expect_err("refused");
    assert!(
        error.message.contains("imports `acme:shop/cart@1.0.0`, which"),
        "{error:?}"
    );
}

fn a_module_without_start_is_explained() {
    let dir = scratch();
    let module = dir.path().join("library.wasm");
    fs::write(
        &module,
        wat::parse_str(r#"(module (func (export "add")))"#).expect("valid"),
    )
    .expect("written");
    let error = crate::world::native(&dir.path().join("cache"), &module).expect_err("refused");
    assert!(
        error.ends_with("exports no `_start` function, so there is nothing to run (it exports add)"),
        "{error}"
    );
}

fn sigterm_ends_a_program() {
    let mut world = World::of_guest("sleep");
    let mut running = world.start().expect("started");
    assert_eq!(running.line(), "ready");
    running.signal(Signal::TERM);
    assert_eq!(running.finish().signal, Some(libc::SIGTERM));
}

fn the_process_has_no_privilege() {
    let mut world = World::of_guest("sleep");
    let mut running = world.start().expect("started");
    assert_eq!(running.line(), "ready");
    assert_eq!(running.status("Uid"), "65532 65532 65532 65532");
    assert_eq!(running.status("Gid"), "65532 65532 65532 65532");
    assert_eq!(running.status("Groups"), "2000");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(running.status(set), "0000000000000000", "{set}");
    }
    assert_eq!(running.status("NoNewPrivs"), "1");
    assert_eq!(running.status("Seccomp"), "2");
    assert_eq!(running.status("Name"), "wasm:web");
    let command_line = fs::read(format!("/proc/{}/cmdline", running.pid())).expect("it runs");
    assert!(
        command_line.starts_with(b"wasm:web\0"),
        "{}",
        String::from_utf8_lossy(&command_line)
    );
    let descriptors = fs::read_dir(format!("/proc/{}/fd", running.pid())).expect("it runs");
    let descriptors = descriptors.map(|entry| fs::read_link(entry.expect("entry").path()).expect("open"));
    let foreign: Vec<_> = descriptors.filter(|path| path.starts_with(world.dir.path())).collect();
    assert!(
        foreign.iter().all(|path| *path == world.spec.native),
        "of the host only the mapped code: {foreign:?}"
    );
    let mounts = fs::read_to_string(format!("/proc/{}/mounts", running.pid())).expect("it runs");
    assert_eq!(mounts.lines().count(), 1, "only the empty root is mounted: {mounts}");
}

fn a_terminal_is_a_terminal() {
    let mut world = World::of_guest("sleep");
    world.terminal = true;
    let running = world.start().expect("started");
    let mut console = running.console().expect("a console");
    let mut text = [0; 7];
    console.read_exact(&mut text).expect("it writes");
    assert_eq!(&text, b"ready\r\n", "the terminal turns line feeds into lines");
    std::io::Write::write_all(&mut console, b"\x03").expect("typed");
    assert_eq!(
        running.finish().signal,
        Some(libc::SIGINT),
        "Ctrl-C reaches the session"
    );
}

fn the_runtime_starts_no_thread() {
    let runtime = catamaran_wasm_shim::WasmRuntime::new();
    let threads = fs::read_dir("/proc/self/task").expect("own threads").count();
    drop(runtime);
    assert_eq!(threads, 1);
}

fn foreign_native_code_is_refused() {
    let mut world = World::of_guest("exit");
    let other = world.dir.path().join("other.module.native");
    fs::write(&other, "not native code").expect("written");
    world.spec.native = other;
    let error = world.start().map(|_| ()).expect_err("refused");
    assert!(error.message.starts_with("cannot use the native code"), "{error:?}");
}

fn nothing_is_left_of_a_failed_start() {
    let mut world = World::of_guest("exit");
    let module = guest(world.dir.path(), "sleep");
    world.spec.native = module;
    assert!(world.start().is_err());
    let children = rustix::process::waitpid(None, rustix::process::WaitOptions::NOHANG);
    assert_eq!(children.expect_err("no child is left"), rustix::io::Errno::CHILD);
    let cgroup = catamaran_shim::cgroup::Cgroup::open(&world.spec.cgroup).expect("a path");
    assert!(!cgroup.exists());
}
