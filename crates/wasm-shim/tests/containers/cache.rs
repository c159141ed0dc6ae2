//! The native-code cache and its compiler. Each test's part with threads runs in a process of its own.

use crate::harness::Test;
use crate::world::{compile_command, guest, native, native_within, scratch};
use catamaran_wasm_shim::{NativeCache, Shape};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};

pub(crate) const TESTS: &[Test] = &[
    ("cache::a_huge_module_is_stopped", a_huge_module_is_stopped),
    (
        "cache::a_module_that_explodes_is_stopped",
        a_module_that_explodes_is_stopped,
    ),
    ("cache::corrupted_files_are_made_anew", corrupted_files_are_made_anew),
    ("cache::garbage_is_refused_in_one_line", garbage_is_refused_in_one_line),
    (
        "cache::leftovers_of_a_crash_are_removed",
        leftovers_of_a_crash_are_removed,
    ),
    ("cache::many_askers_compile_once", many_askers_compile_once),
    ("cache::only_its_owner_may_write", only_its_owner_may_write),
    (
        "cache::the_least_recently_used_goes_first",
        the_least_recently_used_goes_first,
    ),
];

/// `__cache <what> <directory>`.
pub(crate) fn role() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(2).collect();
    let dir = Path::new(&arguments[1]);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    match arguments[0].as_str() {
        "many" => runtime.block_on(many(dir)),
        "bound" => runtime.block_on(bound(dir)),
        other => panic!("no role {other}"),
    }
    ExitCode::SUCCESS
}

fn in_role(what: &str, dir: &Path) {
    let status = Command::new(std::env::current_exe().expect("own path"))
        .args(["__cache".as_ref(), what.as_ref(), dir.as_os_str()])
        .status()
        .expect("it runs");
    assert!(status.success());
}

fn many_askers_compile_once() {
    let dir = scratch();
    guest(dir.path(), "echo");
    in_role("many", dir.path());
    let log = fs::read_to_string(dir.path().join("compilations")).expect("one at least");
    assert_eq!(log, "compiled\n");
}

/// Counts compilations through a script before the compiler.
async fn many(dir: &Path) {
    let script = dir.join("compiler");
    let program = compile_command();
    let text = format!(
        "#!/bin/sh\necho compiled >> {}\nexec {} __wasm-compile\n",
        dir.join("compilations").display(),
        program[0].display()
    );
    fs::write(&script, text).expect("written");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("made executable");
    let command: Vec<OsString> = vec!["/bin/sh".into(), script.into()];
    let cache = NativeCache::open(dir.join("cache"), command).expect("opened");
    let module = dir.join("echo.wasm");
    let askers = (0..20).map(|_| cache.native("sha256:echo", &module));
    let answers = futures::future::try_join_all(askers).await.expect("compiled");
    assert!(answers.iter().all(|native| native == &answers[0]));
    assert_eq!(answers[0].shape, Shape::Command);
    assert!(
        answers[0]
            .imports
            .contains(&"wasi_snapshot_preview1::fd_write".to_owned())
    );
}

fn the_least_recently_used_goes_first() {
    let dir = scratch();
    for name in ["echo", "exit", "files"] {
        guest(dir.path(), name);
    }
    in_role("bound", dir.path());
}

async fn bound(dir: &Path) {
    let first = NativeCache::open(dir.join("cache"), compile_command()).expect("opened");
    let echo = first.native("echo", &dir.join("echo.wasm")).await.expect("compiled");
    let exit = first.native("exit", &dir.join("exit.wasm")).await.expect("compiled");
    let size = fs::metadata(&echo.path).expect("there").len() + fs::metadata(&exit.path).expect("there").len();
    let cache = NativeCache::open_bounded(dir.join("cache"), compile_command(), size * 3 / 2).expect("opened");
    // `echo` is older, but used since.
    cache.native("echo", &dir.join("echo.wasm")).await.expect("present");
    let files = cache.native("files", &dir.join("files.wasm")).await.expect("compiled");
    assert!(echo.path.exists() && files.path.exists(), "used and new files stay");
    assert!(!exit.path.exists(), "the one not used goes");
    cache.native("exit", &dir.join("exit.wasm")).await.expect("made again");
}

fn corrupted_files_are_made_anew() {
    let dir = scratch();
    let (cache, module) = (dir.path().join("cache"), guest(dir.path(), "exit"));
    let path = native(&cache, &module).expect("compiled");
    let good = fs::read(&path).expect("there");
    for broken in [Vec::new(), good[..good.len() / 2].to_vec(), flipped(&good)] {
        fs::write(&path, broken).expect("written");
        assert_eq!(native(&cache, &module).expect("compiled again"), path);
        assert_eq!(fs::read(&path).expect("there").len(), good.len());
    }
    let record = path.to_str().expect("text").replace(".module.native", ".json");
    fs::write(&record, "{").expect("written");
    assert_eq!(native(&cache, &module).expect("compiled again"), path);
}

fn flipped(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    bytes
}

fn only_its_owner_may_write() {
    let dir = scratch();
    let (cache, module) = (dir.path().join("cache"), guest(dir.path(), "exit"));
    let path = native(&cache, &module).expect("compiled");
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!((mode(&cache), mode(&path)), (0o755, 0o644));
}

fn leftovers_of_a_crash_are_removed() {
    let dir = scratch();
    let (cache, module) = (dir.path().join("cache"), guest(dir.path(), "exit"));
    fs::create_dir(&cache).expect("made");
    fs::write(cache.join(".new-0123"), "half").expect("written");
    native(&cache, &module).expect("compiled");
    assert!(!cache.join(".new-0123").exists());
}

fn garbage_is_refused_in_one_line() {
    let dir = scratch();
    let module = dir.path().join("garbage.wasm");
    for (bytes, reason) in [
        (&b"\x7fELF"[..], "it is not WebAssembly"),
        (
            b"\0asm\x01\0\0\0\x0a\xff\xff\xff\xff\x0f",
            "it is not a valid WebAssembly file",
        ),
    ] {
        fs::write(&module, bytes).expect("written");
        let error = native(&dir.path().join("cache"), &module).expect_err("refused");
        assert!(error.contains(reason) && !error.contains('\n'), "{error}");
        assert!(
            error.starts_with(&format!("cannot run {}", module.display())),
            "{error}"
        );
    }
    let left = fs::read_dir(dir.path().join("cache")).expect("made").count();
    assert_eq!(left, 0, "refusals leave nothing behind");
}

fn a_huge_module_is_stopped() {
    let dir = scratch();
    let module = dir.path().join("huge.wasm");
    let file = fs::File::create(&module).expect("made");
    std::io::Write::write_all(&mut &file, b"\0asm\x01\0\0\0").expect("written");
    file.set_len(600 << 20).expect("sparse");
    let error = native(&dir.path().join("cache"), &module).expect_err("refused");
    assert!(error.ends_with("the module is larger than 512 MiB"), "{error}");
}

/// Valid modules that cost the compiler far more than their size.
fn a_module_that_explodes_is_stopped() {
    let dir = scratch();
    let module = dir.path().join("explosion.wasm");
    let body = "(local.set 0 (i32.add (i32.mul (local.get 0) (local.get 1)) (local.get 2)))".repeat(20_000);
    let function = format!("(func (param i32 i32 i32) (result i32) {body} (local.get 0))");
    let text = format!(r#"(module (func (export "_start")) {})"#, function.repeat(8));
    fs::write(&module, wat::parse_str(text).expect("valid")).expect("written");
    let cache = dir.path().join("cache");
    let error = native_within(&cache, &module, &["memory-bytes=40000000"]).expect_err("stopped");
    assert!(
        error.ends_with("compiling it takes more memory than the node allows"),
        "{error}"
    );
    let error = native_within(&cache, &module, &["output-bytes=1000"]).expect_err("stopped");
    assert!(
        error.ends_with("its native code is larger than the node allows"),
        "{error}"
    );
    assert_eq!(fs::read_dir(&cache).expect("made").count(), 0, "nothing is left behind");
    native(&cache, &module).expect("with the usual limits it compiles");
}
